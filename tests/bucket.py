"""A stand-in for Google Cloud Storage: the part of its JSON API that gcsfs and tensorstore use, in this process."""

import contextlib
import http.server
import json
import re
import sys
import threading
import urllib.parse

BUCKET = "bucket"


class Server(http.server.ThreadingHTTPServer):
    """The objects of one bucket, {name: (generation, bytes)}, and what each request was."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.guard, self.generation, self.page = threading.RLock(), 0, 10  # the last: objects of a listing
        self.reset()

    def reset(self):
        """Forgets everything; returns itself."""
        self.objects, self.sessions, self.requests = {}, {}, []
        self.before = lambda method, path: 0  # a test may set it: called first; a status with which the request fails
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self):
        """Variables by which a process, or this one, finds the stand-in."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        }

    def below(self, folder):
        """{path: bytes} of the objects below a folder of the bucket."""
        with self.guard:
            found = dict(self.objects)
        prefix = f"{folder}/"
        return {name.removeprefix(prefix): body for name, (_, body) in found.items() if name.startswith(prefix)}

    def download(self, folder, target):
        """Writes them into a folder of this machine; returns it."""
        for name, body in self.below(folder).items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        return target

    def upload(self, source, folder):
        """Makes objects of all files of a folder of this machine."""
        for path in source.rglob("*"):
            if path.is_file():
                self.put(f"{folder}/{path.relative_to(source)}", path.read_bytes())

    def put(self, name, body, condition=None):
        """Writes an object; its generation, or 0 if `condition`, a generation or 0 for none there, is not met."""
        with self.guard:
            if condition is not None and condition != self.objects.get(name, (0,))[0]:
                return 0
            self.generation += 1
            self.objects[name] = (self.generation, body)
            return self.generation

    def remove(self, name, condition=None):
        """404 if there is no such object, 412 if it is of another generation, else 204."""
        with self.guard:
            if name not in self.objects:
                return 404
            if condition is not None and condition != self.objects[name][0]:
                return 412
            del self.objects[name]
            return 204

    def handle_error(self, request, client_address):
        """Says what broke here; a killed client is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def log_message(self, *_):
        pass

    def _serve(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        self.body = self._read_body()
        told = urllib.parse.unquote(self.path)
        if self.query.get("uploadType") == "multipart":  # its name is in the body
            told += "&name=" + re.search(rb'"name": "([^"]+)"', self.body)[1].decode()
        self.server.requests.append((self.command, told))
        if status := self.server.before(self.command, told):
            return self._answer(status, {"error": {"code": status, "message": "refused by the test"}})
        path = url.path.replace("/download/", "/", 1)
        found = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        if not found:
            return self._answer(501, {"error": {"code": 501, "message": f"{self.command} {self.path}"}})
        is_upload, bucket, name = found[1], found[2], urllib.parse.unquote(found[3] or "")
        if bucket != BUCKET:
            return self._answer(404, {"error": {"code": 404, "message": "no such bucket"}})
        if path.endswith(f"/b/{bucket}"):
            return self._answer(200, {"kind": "storage#bucket", "name": bucket})
        return self._upload(bucket) if is_upload else self._object(bucket, name) if name else self._list(bucket)

    do_GET = do_POST = do_DELETE = _serve

    def _read_body(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client was killed in a request: nothing of it counts")
        return body

    def _condition(self):
        return int(self.query["ifGenerationMatch"]) if "ifGenerationMatch" in self.query else None

    def _describe(self, bucket, name, generation, body):
        about = {"kind": "storage#object", "name": name, "bucket": bucket, "id": f"{bucket}/{name}/{generation}"}
        return about | {"size": str(len(body)), "generation": str(generation), "metageneration": "1"}

    def _object(self, bucket, name):
        if self.command == "DELETE":
            return self._answer(self.server.remove(name, self._condition()))
        found = re.fullmatch(r"(.+)/rewriteTo/b/[^/]+/o/(.+)", name)
        source = found[1] if found else name
        generation, body = self.server.objects.get(source, (0, b""))
        if not generation:
            return self._answer(404, {"error": {"code": 404, "message": f"no such object: {source}"}})
        if found:  # a copy
            self.server.put(found[2], body)
            return self._answer(200, {"done": True})
        if self.query.get("alt") != "media":
            return self._answer(200, self._describe(bucket, name, generation, body))
        if self.query.get("ifGenerationNotMatch") == str(generation):
            return self._answer(304)
        headers = {"x-goog-generation": str(generation), "ETag": str(generation)}
        if asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1]) if asked[1] else max(len(body) - int(asked[2]), 0)
            last = min(int(asked[2]), len(body) - 1) if asked[1] and asked[2] else len(body) - 1
            if first >= len(body):
                return self._answer(416)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            return self._answer(206, body[first : last + 1], headers)
        return self._answer(200, body, headers)

    def _list(self, bucket):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        start, end = self.query.get("startOffset", ""), self.query.get("endOffset")
        items, prefixes = [], set()
        with self.server.guard:
            for name in sorted(self.server.objects):
                if not name.startswith(prefix) or name < start or (end and name >= end):
                    continue
                folder, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if cut:
                    prefixes.add(prefix + folder + delimiter)
                else:
                    items.append(self._describe(bucket, name, *self.server.objects[name]))
        page, size = int(self.query.get("pageToken", 0)), int(self.query.get("maxResults", self.server.page))
        more = {"nextPageToken": str(page + size)} if len(items) > page + size else {}
        shown = {"items": items[page : page + size], "prefixes": sorted(prefixes) if page == 0 else []}
        return self._answer(200, {"kind": "storage#objects", **shown, **more})

    def _upload(self, bucket):
        kind, name, body = self.query["uploadType"], self.query.get("name"), self.body
        if kind == "resumable" and "upload_id" not in self.query:
            session = str(len(self.server.sessions))
            name = name or json.loads(body)["name"]
            self.server.sessions[session] = [name, self._condition(), b""]
            where = f"{self.server.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            return self._answer(200, {}, {"Location": where})
        condition = self._condition()
        if kind == "resumable":
            session = self.server.sessions[self.query["upload_id"]]
            session[2] += body
            _, last, size = re.fullmatch(r"bytes (\d+)-(\d+)/(.+)", self.headers["Content-Range"]).groups()
            if size != str(int(last) + 1):
                return self._answer(308, None, {"Range": f"bytes=0-{len(session[2]) - 1}"})
            name, condition, body = session
        elif kind == "multipart":  # of gcsfs: a description, then the content
            mark = b"--" + re.search(r'boundary="([^"]+)"', self.headers["Content-Type"])[1].encode()
            _, about, rest = body.split(mark, 2)
            name = json.loads(about.partition(b"\n\n")[2])["name"]
            body = rest.rpartition(mark)[0].partition(b"\n\n")[2][:-1]
        if not (generation := self.server.put(name, body, condition)):
            return self._answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        return self._answer(200, self._describe(bucket, name, generation, body))

    def _answer(self, status, content=None, headers=()):
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        headers = dict(headers)
        headers.setdefault("Content-Type", "application/json; charset=UTF-8")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving():
    """A Server, for a block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
