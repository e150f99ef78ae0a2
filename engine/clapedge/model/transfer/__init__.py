"""Bundles from elsewhere and to elsewhere: a repository of the hub, an archive behind a URL, an archive on disk."""
