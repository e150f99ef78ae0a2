"""Draw a terminal session as an animated SVG: python packaging/terminal_film.py > docs/terminal.svg.

The commands are run, in a directory with the demo clips, and what they print is what is drawn.
"""

import html
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

from site_hooks import demo_directory, printed

COMMANDS = (
    'clapedge score sounds/siren.flac -l siren -l "dog barking" -l rain',
    'clapedge teach "garden gate" sounds/church-bell.flac --labels home -o home.npz',
    "clapedge score sounds/church-bell.flac --labels home.npz --top-k 3",
    'clapedge search "something that rings" --embeddings archive --top-k 3',
)

BEFORE = "clapedge embed sounds/ -o archive"
"""Run first, and not shown."""

SECONDS_PER_KEY, SECONDS_PER_LINE, SECONDS_TO_READ, SECONDS_AT_THE_END = 0.04, 0.12, 1.6, 6.0

COLUMN, LINE, MARGIN = 8.4, 20, 16
"""Pixels of a character of 14 px in a monospaced face, of a line, and around the text."""

STYLE = """
svg { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace }
text { white-space: pre; fill: #d7dde4; opacity: 0; animation: shown %(total).2fs steps(1) infinite }
.typed { fill: #7fd7c4 }
@media (prefers-reduced-motion: reduce) { text { opacity: 1 !important; animation: none !important } }
"""


def width(text: str) -> int:
    """Return the columns that a text takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def film(session: list[tuple[str, list[str]]]) -> str:
    """Return the animation of commands and what each prints."""
    shown: list[tuple[float, str, str]] = []  # second, class, text
    now = 0.5
    for command, answer in session:
        shown.append((now, "typed", f"$ {command}"))
        now += SECONDS_PER_KEY * len(command)
        for line in answer:
            shown.append((now, "", line))
            now += SECONDS_PER_LINE
        now += SECONDS_TO_READ
    total = now + SECONDS_AT_THE_END
    columns = max(width(text) for _, _, text in shown)
    size = round(columns * COLUMN + 2 * MARGIN), len(shown) * LINE + 2 * MARGIN
    frames, rows = [], []
    for number, (second, kind, text) in enumerate(shown):
        frames.append(
            f"@keyframes l{number} {{ from {{ opacity: 0 }} {100 * second / total:.2f}%, to {{ opacity: 1 }} }}"
        )
        place = f'x="{MARGIN}" y="{MARGIN + LINE * number + 14}" style="animation-name: l{number}"'
        label = f' class="{kind}"' if kind else ""
        rows.append(f"<text {place}{label}>{html.escape(text, quote=False)}</text>")
    style = STYLE % {"total": total} + "\n".join(frames)
    box = f'viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="A terminal session with clapedge">\n'
        f'<style>{style}\n</style>\n<rect width="100%" height="100%" rx="8" fill="#1d2329"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )


def main() -> None:
    """Run the commands and print the SVG."""
    with TemporaryDirectory() as name:
        directory = demo_directory(Path(name))
        printed("sh", BEFORE, directory)
        session = [(command, printed("sh", command, directory).splitlines()) for command in COMMANDS]
    print(film(session), end="")


if __name__ == "__main__":
    main()
