"""The page of the service, mounted at `/` with Gradio.

Gradio shows one component, written in HTML, CSS and JavaScript here: usable on a phone, with a keyboard and with a
screen reader, in two languages. It uses the same HTTP interface as programs, so that limits, keys and errors are the
same; recordings are not stored, and nothing is loaded from other hosts.
"""

from clapedge.serve.page.mounting import mount

__all__ = ["mount"]
