"""A page in the browser to talk to the model: ``rrec demo``.

In: a policy with its catalogue. Out: a desk that answers in plain values, HTML of them, and a Gradio page. Only
``page`` needs Gradio.
Floor 8: imports recommend and what lies below.
"""
