"""The page: what a person sees of the service, mounted at `/` with Gradio.

Gradio carries one component, written in HTML, CSS and JavaScript here: it is one page on a phone, for a keyboard and
for a screen reader, in two languages. It asks the HTTP interface beside it, so that limits, keys and errors are the
same for a person as for a program, and recordings are kept nowhere. Nothing is loaded from elsewhere.
"""

from clapedge.serve.page.mounting import mount

__all__ = ["mount"]
