"""The core: frames, links, clocks, and the pipeline that owns the threads."""
