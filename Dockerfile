# syntax=docker/dockerfile:1
# Debian, not Alpine: onnxruntime's binaries want glibc 2.28 or newer.

FROM node:24-bookworm-slim AS build
WORKDIR /app
# Dependencies first: they change less often than sources. Their install scripts are not needed, and `prepare` has no sources yet.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build
# onnxruntime-node ships every platform: keep this one (process.arch names its folders), without the platform builder's help.
RUN npm prune --omit=dev --ignore-scripts \
 && keep="*/linux/$(node -p process.arch)" \
 && find node_modules/onnxruntime-node/bin -mindepth 3 -maxdepth 3 -type d ! -path "$keep" -exec rm -r {} + \
 && find node_modules/onnxruntime-node/bin -type d -empty -delete

FROM node:24-bookworm-slim
# As it is, the container serves what ships with Graft. Your own: docker run -v ./models:/models -v ./adapters:/adapters \
#   -e GRAFT_BACKBONE=/models ...
# It listens to others, so say who may come: -v ./tenants:/tenants:ro -e GRAFT_TENANTS=/tenants, or -e GRAFT_OPEN=true for everybody
# (then publish the port to this machine alone: -p 127.0.0.1:8080:8080). It does not start without either: docs/tenants.md.
ENV NODE_ENV=production \
    GRAFT_HOST=0.0.0.0 \
    GRAFT_PORT=8080 \
    GRAFT_DISK_CACHE=/cache
WORKDIR /app
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY models/scenes ./models/scenes
COPY adapters ./adapters
RUN ln -s /app/dist/cli/main.js /usr/local/bin/graft \
 && install -d -o node -g node /models /adapters /cache
# Beside a backbone of yours, ./adapters is the mounted folder.
WORKDIR /
USER node
VOLUME ["/models", "/adapters", "/cache"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.GRAFT_PORT + '/health/ready').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# node handles SIGTERM itself (drain, then exit), so it can be process 1.
ENTRYPOINT ["graft", "serve"]
