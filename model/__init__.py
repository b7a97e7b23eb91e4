"""The Vision-LLM: BLIP-2's vision encoder and Q-Former in front of any multilingual language model.

`assemble` builds or loads it, `freeze` says which part learns, `adapt` adds LoRA to the language model, `inputs` lays an image, a prompt and
a target out as token ids, `loss` computes the loss at label positions only, `generate` writes text. All of it stands on transformers' own
`Blip2ForConditionalGeneration` and on PEFT; nothing of theirs is rewritten, and nothing here knows of shards or of a training loop.
"""

import logging

# bitsandbytes, which PEFT imports where it is installed, says at import that it lacks an optional kernel, which nothing here needs
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
