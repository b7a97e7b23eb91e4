"""Re-alignment of a Vision-LLM on multilingual shards.

`realign` is the entry and reads from top to bottom; `order` says who sees which sample when, `loader` reads samples through the shards' index,
`checkpoint` saves and finds states, `report` writes numbers and the run page, and `tiny_base` makes the small stand-in for a pre-trained
checkpoint that the demo and the tests start from.
"""
