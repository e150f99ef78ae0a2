"""The service: HTTP and a page in front of one engine.

`app.create_app(service)` makes the application. The page is a module of its own, `clapedge.serve.page`, with one
function: `mount(app, service) -> FastAPI` puts it at `/` and returns the application to run; it is called last, so that
`/v1`, `/healthz`, `/readyz` and `/metrics` come before it. What it may call of `service`, a `service.Service`, from any
thread (each call waits for its turn in the same bounded queue as HTTP requests do):

- `score(source, labels, *, decision=None, stop=None, **hearing) -> Result`
- `timeline(source, labels, *, window, hop, start, duration, told=None, stop=None) -> Timeline`
- `check_labels(label_set) -> tuple[Advice, ...]`
- `presets() -> Mapping[str, LabelSet]`: named label sets, those of `--labels` first
- `facts() -> Facts`: model, weights, variant and provider that answer now, for the page's foot
- `settings -> Settings`: `max_upload` in bytes, `max_seconds`, limits of labels

`labels` is a `LabelSet`, a list of words, or the name of a set (`Named("home")`). Errors are `ClapEdgeError`s whose
message ends with what to do; `problems.BusyError` means that the queue is full: try again in `retry_after` seconds.
`stop`, a `threading.Event`, ends the work when it is set.
"""
