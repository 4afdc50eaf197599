/** The options of `graft pull`: light, since they are read for every command's help. */
import { list } from '../../settings.js';

export const PULL_SETTINGS = {
  include: {
    ...list(
      'Only files like these, such as "*.json,model*.safetensors"; without it all that models are made of, but never pickles',
    ),
    default: null,
  },
  exclude: { ...list('No files like these, such as "original/*"'), default: null },
};
