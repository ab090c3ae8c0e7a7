"""A study: ways to learn beside each other, at one budget, with several seeds.

<folder>/study.json              what the folder belongs to
<folder>/pool/                   the environments of the study and its tokenizer
<folder>/sets/                   the task sets of the runs: so many environments of the pool, perhaps filtered
<folder>/runs/NAME-SEED/         a run folder each, of a warm start or of an arm
<folder>/results/NAME-SEED.json  what came of a run that is done
<folder>/results.jsonl           the same of all, in order
<folder>/study.md, .html, *.svg  the page

No file but those of the runs tells the time, so a study that was killed ends with the same bytes.
"""
