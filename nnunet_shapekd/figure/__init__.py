"""``shapekd figure``: the method made visible on one slice, after the paper's figure 3 (arXiv 2409.17503)."""
