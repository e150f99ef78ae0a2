"""The service: one engine behind HTTP, with a page for people.

`app.create_app(service)` returns the application. A request goes through `middleware` to one of the `routes`, which
queues work by `service.Service.submit`; a worker does it with the model that is current then. The page has its
own routes in `page`.
"""
