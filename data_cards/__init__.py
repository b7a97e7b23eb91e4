"""The card generator: what a person reads about a finished run.

`card.build_card(run, out)` turns a run folder into `README.md` (a Hugging Face dataset card), `index.html` (one page
with everything in it, which needs no network) and `croissant.json` (the same for machines). It only reads, and the
same run always gives the same bytes. Before anything is written it adds up: every planned text must be a sample or a
row of the ledger. Where the sum is wrong, the page says so in red and `build_card` raises, because a card that hides
a loss is worse than none.
"""
