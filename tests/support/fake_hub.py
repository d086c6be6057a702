"""A small Hugging Face hub on this machine: the answers that a client of one file sees."""
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class File:
    """One model's config.json, and how the hub behaves about it."""

    def __init__(self, text, etag=None, **behaviour):
        self.bytes = text.encode()
        self.etag = etag or hashlib.sha1(self.bytes).hexdigest()
        self.revisions = behaviour.pop("revisions", ("main", COMMIT))
        self.refuse = behaviour.pop("refuse", None)        # (status, X-Error-Code)
        self.busy = behaviour.pop("busy", 0)               # answers of 503 before the first good one
        self.cuts = list(behaviour.pop("cuts", ()))        # bytes after which a transfer breaks off
        self.elsewhere = behaviour.pop("elsewhere", None)  # the host that holds the bytes
        self.wrong = behaviour.pop("wrong", False)         # other bytes than the ETag says
        self.silent = behaviour.pop("silent", False)       # accepts, and never answers
        assert not behaviour, behaviour


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        hub = self.server
        hub.requests.append((self.command, self.path, dict(self.headers)))
        is_bytes = self.path.startswith("/bytes/")
        path = self.path[len("/bytes"):] if is_bytes else self.path
        model, _, rest = path[1:].partition("/resolve/")
        revision = rest.rsplit("/", 1)[0].replace("%2F", "/")
        file = hub.files.get(model)
        if not file:
            return self.answer(401, X_Error_Code="RepoNotFound")
        if file.silent:
            return hub.stopped.wait(60)
        if file.refuse:
            return self.answer(file.refuse[0], X_Error_Code=file.refuse[1])
        if revision not in file.revisions:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if file.busy:
            file.busy -= 1
            return self.answer(503)
        if file.elsewhere and not is_bytes:
            return self.answer(302, Location=f"http://{file.elsewhere}:{hub.server_port}/bytes{self.path}",
                               X_Repo_Commit=COMMIT, X_Linked_Etag=f'"{file.etag}"', X_Linked_Size=len(file.bytes))
        self.transfer(file)

    def transfer(self, file):
        body = file.bytes[::-1] if file.wrong else file.bytes
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(206 if start else 200)
        for name, value in {"Content-Length": len(body) - start, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        if file.cuts:
            self.wfile.write(body[start:start + file.cuts.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body[start:])


class FakeHub(ThreadingHTTPServer):
    """Serves `files` (model id -> File) until close(); `requests` holds (method, path, headers)."""
    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.stopped = files, [], threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        pass  # a client that goes away is part of the tests

    def close(self):
        self.stopped.set()
        self.shutdown()
        self.server_close()
