"""PyTorch's side of `npm run bench:train`: the reference implementation, a step as the trainer does it, on random rows.

    python bench/train.py REFERENCE_FOLDER '{"folder": ..., "method": ..., "rank": ..., "contexts": ..., "rows": ..., "image": [tokens, dim],
                                             "text": ..., "steps": ..., "threads": ...}'
Prints one line of JSON: seconds of each step, the process's peak memory, and what it held before the model was there.
"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, sys.argv[1])
import context_peft as reference  # noqa: E402

task = json.loads(sys.argv[2])
torch.set_num_threads(task["threads"])
torch.manual_seed(0)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


idle = peak()
llama = reference.Llama(task["folder"])
rows, text, (images, dim) = task["rows"], task["text"], task["image"]
adapter = reference.ContextAdapter(
    llama, task["method"], dim, rank=task["rank"], alpha=task["rank"], contexts=tuple(task["contexts"]), seed=0
)
parameters = adapter.trainable()
optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)

# The reference gives logits of every position. The trainer wants those that predict a caption token, so PyTorch gets the same help:
# the head becomes the identity, and the real one is applied to the rows that count.
head = llama.w["lm_head.weight"]
llama.w["lm_head.weight"] = torch.eye(llama.d)
features = torch.randn(rows, images, dim)
ids = torch.randint(3, head.shape[0], (rows, text))
targets = torch.cat([ids[:, 1:], torch.full((rows, 1), 2)], 1).reshape(-1)

seconds, losses = [], []
for _ in range(task["steps"]):
    start = time.perf_counter()
    hidden = adapter.logits(llama, features, ids)
    loss = F.cross_entropy(hidden[:, images:].reshape(-1, llama.d) @ head.T, targets)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak(), "idle": idle, "version": torch.__version__}))
