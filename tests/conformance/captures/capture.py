#!/usr/bin/env python3
"""Record the exact bytes that real HTTP clients send, one request per file.

For every case a raw TCP listener is opened on 127.0.0.1 port 0, the client is
run as a subprocess and sent there, and the one request it makes is written
byte for byte to NAME.http: the head, and the body where there is one (read to
Content-Length, or to the end of the chunked coding and its trailers).
`captures.json` lists each file with the client, its version and a sentence.

    capture.py [--out DIR] [--only PREFIX] [--node-dir DIR] [--python EXE] [--list]

Clients: curl, wget, chromium on PATH; the Python libraries in clients.py, run
with --python (default: this interpreter); the JavaScript ones in clients.mjs,
run with `node`, npm packages found in --node-dir (default: this directory).

A client that is not installed is reported as SKIPPED, a case that goes wrong
as FAILED; either makes the exit status 1, and leaves an older file as it was.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 40  # seconds for one case

# Invented credentials of the example service.
HOST = "api.shop.example"
TENANT_KEY = "ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw"
WORKSPACE_KEY = "ptc_wsAcme01_1IrZKglEufK5GrJwD52BfXI0ak2crIYfj4LVRhi"
MANAGEMENT_KEY = "ptc_mkAcme01_2KJ8uw4vGoDcIbwJQFwbZuc6vYZt7uSkh2P31Dn"
WRONG_KEY = "ptc_wrong000_4NfQ8rXw2LbT6mYc0HsV9kJd3ZpG7aUe1RiK5oB"
TENANT = "X-API-Key: " + TENANT_KEY
WORKSPACE = "X-Workspace-Key: " + WORKSPACE_KEY
MANAGEMENT = "Authorization: ManagementKey-v1 " + MANAGEMENT_KEY
EVENT = '{"type":"order.paid","amount":1999}'


# --- The listener ----------------------------------------------------------

class BadRequest(Exception):
    """The bytes received are not one complete request."""


def header_values(head, name):
    """All values of header `name` (lower case, bytes) in a request head."""
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [value.strip() for key, _, value in pairs if key.strip().lower() == name]


def chunked_end(data, at):
    """Offset just past the chunked body that starts at `at`; None if unfinished."""
    while True:
        eol = data.find(b"\r\n", at)
        if eol < 0:
            return None
        size = int(data[at:eol].split(b";")[0], 16)
        at = eol + 2
        if size == 0:
            break
        at += size + 2
        if at > len(data):
            return None
        if data[at - 2:at] != b"\r\n":
            raise BadRequest("chunk without CRLF")
    while True:  # trailer lines, up to and including an empty one
        eol = data.find(b"\r\n", at)
        if eol < 0:
            return None
        if eol == at:
            return eol + 2
        at = eol + 2


def request_end(data, head_end):
    """Offset just past the request in `data`; None if it is not all there yet."""
    head = data[:head_end]
    if header_values(head, b"transfer-encoding"):
        return chunked_end(data, head_end)
    lengths = header_values(head, b"content-length")
    end = head_end + (int(lengths[0]) if lengths else 0)
    return end if len(data) >= end else None


def read_request(conn):
    """Read one request and return its bytes; b"" if the peer sent nothing."""
    data, continued = b"", False
    while True:
        head_end = data.find(b"\r\n\r\n") + 4
        if head_end >= 4:
            end = request_end(data, head_end)
            if end is not None:
                if end != len(data):
                    raise BadRequest("bytes after the end of the request")
                return data
            expect = header_values(data[:head_end], b"expect")
            if not continued and b"100-continue" in [e.lower() for e in expect]:
                conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                continued = True
        got = conn.recv(65536)
        if not got:
            if data:
                raise BadRequest("connection closed inside a request")
            return b""
        data += got


def answer(method, body=b"{}\n", content_type=b"application/json"):
    """A 200 that closes the connection, and lets any cross-origin page go on."""
    head = (b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type +
            b"\r\nContent-Length: " + str(len(body)).encode() +
            b"\r\nAccess-Control-Allow-Origin: *"
            b"\r\nAccess-Control-Allow-Headers: X-API-Key, Content-Type"
            b"\r\nAccess-Control-Allow-Methods: GET, POST, PUT, DELETE"
            b"\r\nConnection: close\r\n\r\n")
    return head if method == b"HEAD" else head + body


class Listener:
    """Answers every request, and keeps the first one the case is about.

    For browser cases `page` is served at `/` first; it, the favicon, and (when
    `method` is given) requests with other methods are answered but not kept.
    """

    def __init__(self, page=None, method=None):
        self.page = page.encode() if page is not None else None
        self.method = method.encode() if method else None
        self.raw, self.error = None, None
        self.lock, self.done = threading.Lock(), threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:  # closed: the case is over
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with conn:
            conn.settimeout(TIMEOUT)
            try:
                raw = read_request(conn)
                if not raw:  # a speculative connection of a browser
                    return
                method, target = raw.split(b"\r\n", 1)[0].split(b" ")[:2]
                if self.page is not None and target == b"/":
                    conn.sendall(answer(method, self.page, b"text/html; charset=utf-8"))
                    return
                if target != b"/favicon.ico" and self.method in (None, method):
                    self.keep(raw)
                conn.sendall(answer(method))
            except (BadRequest, ValueError) as err:
                self.error = str(err)
                self.done.set()
            except OSError:
                pass  # the client left; whether a request was kept tells the rest

    def keep(self, raw):
        with self.lock:
            if self.raw is None:
                self.raw = raw
                self.done.set()

    def close(self):
        self.socket.close()


# --- Cases -----------------------------------------------------------------

@dataclasses.dataclass
class Case:
    name: str            # the file is NAME.http
    client: str          # key in CLIENTS
    what: str            # one plain sentence
    argv: list           # {port} and {dir} (a scratch directory) are filled in
    stdin: str = None    # what the client reads, if anything
    page: str = None     # browser: the page at `/` that makes the request
    method: str = None   # keep only a request with this method
    exits: bool = True   # the client ends by itself, with status 0


CASES = []


def curl(name, what, path, *args, origin="http://" + HOST, direct=True, **more):
    """A case for curl; unless it goes through a proxy, only the connection is redirected."""
    argv = ["curl", "--disable", "--silent", "--show-error", "--http1.1"]
    if direct:
        argv += ["--connect-to", "::127.0.0.1:{port}"]
    CASES.append(Case("curl-" + name, "curl", what, [*argv, *args, origin + path], **more))


def wget(name, what, path, *args, proxy=False):
    argv = ["wget", "--no-config", "--quiet", "--tries=1", "--output-document=-", *args]
    if proxy:
        argv += ["-e", "use_proxy=yes", "-e", "http_proxy=http://127.0.0.1:{port}/",
                 "http://" + HOST + path]
    else:
        argv += ["--no-proxy", "--header=Host: " + HOST, "http://127.0.0.1:{port}" + path]
    CASES.append(Case("wget-" + name, "wget", what, argv))


def chromium(name, what, url, script=None, body="", method=None, flags=()):
    """A case for headless Chromium: open `url`, whose page (if any) runs `script`."""
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
            "--user-data-dir={dir}/profile",
            "--host-resolver-rules=MAP *.shop.example 127.0.0.1:{port}", *flags, url]
    page = None
    if script is not None:
        page = f"<!doctype html><title>Shop</title>{body}<script>{script}</script>"
    CASES.append(Case("chromium-" + name, "chromium", what, argv, page=page,
                      method=method, exits=False))


def python(name, client, what):
    CASES.append(Case(name, client, what, ["{python}", "-B", str(HERE / "clients.py"), name, "{port}"]))


def node(name, client, what):
    CASES.append(Case(name, client, what, ["node", str(HERE / "clients.mjs"), name, "{port}"]))


def define_cases():
    h = "--header"

    # curl: credentials
    curl("get-tenant-key", "GET with the tenant key in X-API-Key.", "/v1/events", h, TENANT)
    curl("get-one-event", "GET of one event with the tenant key.", "/v1/events/evt_42", h, TENANT)
    curl("get-no-key", "GET with no credential at all.", "/v1/events")
    curl("get-wrong-key", "GET with a key that was never issued.", "/v1/events",
         h, "X-API-Key: " + WRONG_KEY)
    curl("get-empty-key", "GET with an X-API-Key header that has an empty value.",
         "/v1/events", h, "X-API-Key;")
    curl("get-lowercase-header", "GET with the header name written x-api-key.",
         "/v1/events", h, "x-api-key: " + TENANT_KEY)
    curl("get-padded-key", "GET with spaces and a tab around the key in the header line.",
         "/v1/events", h, f"X-API-Key:   {TENANT_KEY} \t ")
    curl("get-duplicate-key-same", "GET with the same tenant key in two X-API-Key lines.",
         "/v1/events", h, TENANT, h, TENANT)
    curl("get-duplicate-key-differs", "GET with two X-API-Key lines, a wrong key before the right one.",
         "/v1/events", h, "X-API-Key: " + WRONG_KEY, h, TENANT)
    curl("get-two-kinds-of-key", "GET with a tenant key and a workspace key in their headers.",
         "/v1/events", h, TENANT, h, WORKSPACE)
    curl("get-header-and-query-key", "GET with a tenant key in the header and a workspace key in the query.",
         "/v1/events?api_key=" + WORKSPACE_KEY, h, TENANT)
    curl("get-workspace-key-header", "GET with the workspace key in X-Workspace-Key.",
         "/v1/coupons/SPRING", h, WORKSPACE)
    curl("get-workspace-key-query", "GET with the workspace key in the query.",
         "/v1/coupons/SPRING?api_key=" + WORKSPACE_KEY)
    curl("get-query-key-twice", "GET with api_key twice in the query, a wrong key before the right one.",
         f"/v1/coupons/SPRING?api_key={WRONG_KEY}&api_key={WORKSPACE_KEY}")
    curl("get-query-key-encoded", "GET with the key and the parameter name percent-encoded in part.",
         "/v1/coupons/SPRING?api%5Fkey=" + WORKSPACE_KEY.replace("_", "%5F"))
    curl("get-query-key-among-others", "GET with api_key between other parameters, one empty, one with a plus.",
         f"/v1/events?limit=10&cursor=&api_key={WORKSPACE_KEY}&q=red+shoes")
    curl("get-management-key", "GET with the management key in Authorization.",
         "/v1/customers/cus_7", h, MANAGEMENT)
    curl("get-basic", "GET with user name and password as Basic authorization (-u).",
         "/v1/events", "--user", "shop:example")
    curl("get-basic-userinfo", "GET of a URL with user name and password before the host.",
         "/v1/events", origin="http://shop:example@" + HOST)
    curl("get-bearer", "GET with a Bearer token.", "/v1/events",
         h, "Authorization: Bearer example-token-0001")
    curl("get-duplicate-authorization", "GET with two Authorization lines, Basic and ManagementKey-v1.",
         "/v1/customers/cus_7", h, "Authorization: Basic c2hvcDpleGFtcGxl", h, MANAGEMENT)

    # curl: methods, bodies, framing
    curl("head", "HEAD (-I).", "/v1/events", "--head", h, TENANT)
    curl("options", "OPTIONS by hand, not a browser's preflight.", "/v1/events", "-X", "OPTIONS")
    curl("options-asterisk", "OPTIONS with the asterisk form of the target.", "/",
         "-X", "OPTIONS", "--request-target", "*", h, TENANT)
    curl("delete", "DELETE with the management key.", "/v1/customers/cus_7",
         "-X", "DELETE", h, MANAGEMENT)
    curl("patch-json", "PATCH with a JSON body.", "/v1/customers/cus_7", "-X", "PATCH",
         h, MANAGEMENT, "--json", '{"name":"Jürgen"}')
    curl("trace", "TRACE with the tenant key.", "/v1/events", "-X", "TRACE", h, TENANT)
    curl("lowercase-method", "A request whose method is written get.", "/v1/events",
         "-X", "get", h, TENANT)
    curl("get-with-body", "GET that carries a JSON body.", "/v1/events", "-X", "GET",
         h, TENANT, "--json", EVENT)
    curl("post-form", "POST of a form (-d).", "/v1/events", h, TENANT,
         "-d", "type=order.paid", "-d", "amount=1999")
    curl("post-form-key-in-body", "POST of a form with the workspace key in the body only.",
         "/v1/events", "-d", "api_key=" + WORKSPACE_KEY, "-d", "type=order.paid")
    curl("post-json", "POST of JSON (--json).", "/v1/events", h, TENANT, "--json", EVENT)
    curl("post-empty", "POST with an empty body.", "/v1/events", h, TENANT, "-d", "")
    curl("post-no-body", "POST by -X alone, so without Content-Length.", "/v1/events",
         "-X", "POST", h, TENANT)
    curl("post-multipart", "POST of a multipart form with a small file.", "/v1/events", h, TENANT,
         "-F", "type=order.paid", "-F", "note=@-;filename=note.txt;type=text/plain",
         stdin="thank you\r\n")
    curl("post-chunked", "POST with the chunked transfer coding.", "/v1/events", h, TENANT,
         h, "Transfer-Encoding: chunked", h, "Content-Type: application/json", "-d", EVENT)
    curl("post-expect-continue", "POST with Expect: 100-continue; the body followed the 100.",
         "/v1/events", h, TENANT, h, "Expect: 100-continue", "--json", EVENT)
    curl("post-method-override", "POST with X-HTTP-Method-Override: DELETE.", "/v1/customers/cus_7",
         h, TENANT, h, "X-HTTP-Method-Override: DELETE", "-d", "")
    curl("put-upload", "PUT of an upload of unknown length from standard input (-T -).",
         "/v1/customers/cus_7", h, MANAGEMENT, "-T", "-", stdin='{"name":"Ada"}\n')
    curl("put-upload-file", "PUT of a file (-T file).", "/v1/customers/cus_7", h, MANAGEMENT,
         "-T", "{dir}/input")
    curl("get-http10", "GET in HTTP/1.0 (-0).", "/v1/events", "--http1.0", h, TENANT)
    curl("get-upgrade-h2c", "GET that offers to upgrade to h2c (--http2).", "/v1/events",
         "--http2", h, TENANT)

    # curl: the path
    curl("get-encoded-utf8-path", "GET of a path with percent-encoded UTF-8.",
         "/v1/customers/J%C3%BCrgen", h, MANAGEMENT)
    curl("get-raw-utf8-path", "GET of a path typed with a letter outside ASCII.",
         "/v1/customers/Jürgen", h, MANAGEMENT)
    curl("get-encoded-space-path", "GET of a path with a space written %20.",
         "/v1/customers/Ada%20Lovelace", h, MANAGEMENT)
    for name, path, words in [
            ("dot", "/v1/./events", "a single-dot segment"),
            ("dotdot", "/v1/a/../events", "a double-dot segment"),
            ("encoded-dotdot", "/v1/customers/%2e%2e/events", "a double-dot segment written %2e%2e"),
            ("double-encoded-dotdot", "/v1/customers/%252e%252e/events",
             "a double-dot segment encoded twice")]:
        curl(f"get-{name}-as-is", f"GET of {words}, with --path-as-is.", path,
             "--path-as-is", h, TENANT)
    curl("get-dotdot-default", "GET of /v1/a/../events without --path-as-is.",
         "/v1/a/../events", h, TENANT)
    curl("get-encoded-dotdot-default", "GET of /v1/customers/%2e%2e/events without --path-as-is.",
         "/v1/customers/%2e%2e/events", h, TENANT)
    curl("get-double-slash", "GET of a path that begins with two slashes.", "//v1/events",
         "--path-as-is", h, TENANT)
    curl("get-inner-double-slash", "GET of a path with two slashes inside.", "/v1//events",
         h, TENANT)
    curl("get-encoded-slash", "GET of a path with a slash written %2F.",
         "/v1/customers/a%2Fb", h, MANAGEMENT)
    curl("get-encoded-backslash", "GET of a path with a backslash written %5C.",
         "/v1/customers%5C..%5Cevents", "--path-as-is", h, TENANT)
    curl("get-encoded-letter", "GET of /v1/events with one letter needlessly percent-encoded.",
         "/v1/%65vents", h, TENANT)
    curl("get-encoded-nul", "GET of a path with a NUL written %00.", "/v1/events%00", h, TENANT)
    curl("get-semicolon", "GET of a path with a semicolon parameter.", "/v1/events;v=1", h, TENANT)
    curl("get-trailing-slash", "GET of a path with a slash at the end.", "/v1/events/", h, TENANT)
    curl("get-uppercase-path", "GET of /V1/EVENTS.", "/V1/EVENTS", h, TENANT)
    curl("get-fragment", "GET of a URL with a fragment, which is not sent.",
         "/v1/events#api_key", h, TENANT)
    curl("get-question-mark-only", "GET of a path with an empty query.", "/v1/events?", h, TENANT)

    # curl: target form and Host
    curl("get-proxy-absolute", "GET through a proxy, so with the absolute form of the target.",
         "/v1/events", "--proxy", "http://127.0.0.1:{port}", h, TENANT, direct=False)
    curl("get-absolute-other-host", "GET with an absolute target whose host differs from Host.",
         "/v1/events", "--proxy", "http://127.0.0.1:{port}", h, TENANT,
         h, "Host: admin.shop.example", direct=False)
    curl("connect-proxy-tunnel", "CONNECT, asked of a proxy for a tunnel (-p).", "/v1/events",
         "--proxy", "http://127.0.0.1:{port}", "--proxytunnel", h, TENANT,
         direct=False, exits=False)
    curl("get-host-port", "GET with a port in the Host header.", "/v1/events", h, TENANT,
         origin=f"http://{HOST}:8080")
    curl("post-host-port", "POST of JSON with a port in the Host header.", "/v1/events", h, TENANT,
         "--json", EVENT, origin=f"http://{HOST}:8080")
    curl("get-host-uppercase", "GET with the host written in upper case.", "/v1/events", h, TENANT,
         origin="http://API.SHOP.EXAMPLE")
    curl("get-host-trailing-dot", "GET with a dot at the end of the host.", "/v1/events", h, TENANT,
         origin=f"http://{HOST}.")
    curl("get-no-host", "GET with the Host header removed.", "/v1/events", h, TENANT, h, "Host:")

    # curl: headers about the sender, and ones a gate might itself set
    curl("get-x-forwarded", "GET with X-Forwarded-For, -Host and -Proto made up by the client.",
         "/v1/events", h, TENANT, h, "X-Forwarded-For: 203.0.113.7, 198.51.100.2",
         h, "X-Forwarded-Host: admin.shop.example", h, "X-Forwarded-Proto: https")
    curl("get-forwarded", "GET with a Forwarded header made up by the client.", "/v1/events",
         h, TENANT, h, 'Forwarded: for="[2001:db8::17]:4711";proto=https;host=api.shop.example')
    curl("get-spoofed-tenant", "GET with X-Portcullis-Tenant added by an attacker.", "/v1/events",
         h, TENANT, h, "X-Portcullis-Tenant: other")
    curl("get-spoofed-tenant-underscore", "GET with X_Portcullis_Tenant added by an attacker.",
         "/v1/events", h, TENANT, h, "X_Portcullis_Tenant: other")
    curl("get-spoofed-tenant-no-key", "GET with X-Portcullis-Tenant and no key.", "/v1/events",
         h, "X-Portcullis-Tenant: other")
    curl("get-connection-lists-tenant", "GET whose Connection header names the gate's own header and the key's.",
         "/v1/events", h, TENANT, h, "Connection: close, X-Portcullis-Tenant, X-API-Key")
    curl("get-underscore-key", "GET with the key in X_API_Key, with underscores.", "/v1/events",
         h, "X_API_Key: " + TENANT_KEY)
    curl("get-underscore-and-hyphen-key", "GET with a wrong key in X_API_Key and the right one in X-API-Key.",
         "/v1/events", h, "X_API_Key: " + WRONG_KEY, h, TENANT)
    curl("get-cookie-compressed", "GET with a cookie and all the content codings curl knows.",
         "/v1/events", h, TENANT, "--cookie", "session=example", "--compressed")

    # wget
    header = "--header=" + TENANT
    wget("get-tenant-key", "GET with the tenant key; Host given as a header.", "/v1/events", header)
    wget("get-query-key", "GET with the workspace key in the query.",
         "/v1/coupons/SPRING?api_key=" + WORKSPACE_KEY)
    wget("get-duplicate-key", "GET asked for with two X-API-Key headers that differ.", "/v1/events",
         "--header=X-API-Key: " + WRONG_KEY, header)
    wget("post-form", "POST of a form (--post-data).", "/v1/events", header,
         "--post-data=type=order.paid&amount=1999")
    wget("put-json", "PUT of JSON (--method, --body-data).", "/v1/customers/cus_7",
         "--header=" + MANAGEMENT, "--header=Content-Type: application/json",
         "--method=PUT", '--body-data={"name":"Ada"}')
    wget("get-basic", "GET with Basic authorization, sent unasked.", "/v1/events",
         "--user=shop", "--password=example", "--auth-no-challenge")
    wget("get-dotdot", "GET asked for as /v1/a/../events.", "/v1/a/../events", header)
    wget("get-encoded-dotdot", "GET asked for as /v1/customers/%2e%2e/events.",
         "/v1/customers/%2e%2e/events", header)
    wget("get-raw-utf8-path", "GET of a path typed with a letter outside ASCII.",
         "/v1/customers/Jürgen", "--header=" + MANAGEMENT)
    wget("get-proxy-absolute", "GET through a proxy, so with the absolute form of the target.",
         "/v1/events", header, proxy=True)

    # Chromium
    site, shop = f"http://{HOST}/", "http://www.shop.example/"
    key = json.dumps({"X-API-Key": TENANT_KEY})
    json_post = (f"method:'POST',headers:{{'Content-Type':'application/json',...{key}}},"
                 f"body:JSON.stringify({EVENT})")
    chromium("navigate", "Navigation by URL to a page.", site + "v1/events")
    chromium("navigate-query-key", "Navigation to a URL with the workspace key in the query.",
             site + "v1/coupons/SPRING?api_key=" + WORKSPACE_KEY)
    chromium("navigate-trustworthy", "Navigation to the host treated as a secure origin, so with Sec-Fetch and client hints.",
             site + "v1/events", flags=["--unsafely-treat-insecure-origin-as-secure=http://" + HOST])
    chromium("link-dotdot", "A followed link to /v1/a/../customers/%2e%2e/events.", site,
             "document.links[0].click()",
             body='<a href="/v1/a/../customers/%2e%2e/events">Events</a>')
    chromium("link-raw-utf8", "A followed link with a letter outside ASCII, a space, a backslash and %2f in its path.",
             site, "document.links[0].click()",
             body='<a href="/v1\\customers/J&uuml;rgen Smith/a%2fb">Customer</a>')
    chromium("fetch-tenant-key", "Same-origin fetch with X-API-Key.", site,
             f"fetch('/v1/events',{{headers:{key}}})")
    chromium("fetch-trustworthy", "Same-origin fetch with X-API-Key on a secure origin.", site,
             f"fetch('/v1/events',{{headers:{key}}})",
             flags=["--unsafely-treat-insecure-origin-as-secure=http://" + HOST])
    chromium("fetch-duplicate-key", "Same-origin fetch after two appends of X-API-Key that differ.", site,
             f"let h=new Headers();h.append('X-API-Key','{WRONG_KEY}');"
             f"h.append('X-API-Key','{TENANT_KEY}');fetch('/v1/events',{{headers:h}})")
    chromium("fetch-with-cookie", "Same-origin fetch of a page that has set a cookie.", site,
             f"document.cookie='session=example';fetch('/v1/events/evt_42',{{headers:{key}}})")
    chromium("fetch-post-json", "Same-origin fetch POST of JSON.", site,
             f"fetch('/v1/events',{{{json_post}}})")
    chromium("fetch-post-multipart", "Same-origin fetch POST of a FormData with a file.", site,
             "let f=new FormData();f.append('type','order.paid');"
             "f.append('note',new Blob(['thank you\\n'],{type:'text/plain'}),'note.txt');"
             f"fetch('/v1/events',{{method:'POST',headers:{key},body:f}})")
    chromium("fetch-delete", "Same-origin fetch DELETE.", site,
             f"fetch('/v1/customers/cus_7',{{method:'DELETE',headers:{key}}})")
    chromium("cors-simple-get", "Cross-origin fetch that needs no preflight, key in the query.", shop,
             f"fetch('{site}v1/coupons/SPRING?api_key={WORKSPACE_KEY}')")
    chromium("cors-preflight", "Preflight of a cross-origin fetch POST of JSON with X-API-Key.", shop,
             f"fetch('{site}v1/events',{{{json_post}}})", method="OPTIONS")
    chromium("cors-post-after-preflight", "The cross-origin POST that follows an allowed preflight.", shop,
             f"fetch('{site}v1/events',{{{json_post}}})", method="POST")
    chromium("cors-preflight-delete", "Preflight of a cross-origin fetch DELETE.", shop,
             f"fetch('{site}v1/customers/cus_7',{{method:'DELETE'}})", method="OPTIONS")
    chromium("cors-null-origin", "Preflight from a sandboxed frame, so with Origin: null.", site, "",
             body='<iframe sandbox="allow-scripts" srcdoc="<script>fetch(\'' + site +
             "v1/events',{headers:{'X-API-Key':'" + TENANT_KEY + "'}})</script>\"></iframe>")
    chromium("form-post", "Submission of a form with method POST.", site, "document.forms[0].submit()",
             body='<form method="post" action="/v1/events"><input name="type" value="order.paid">'
             '<input name="note" value="50% off &amp; thank you"></form>')
    chromium("form-get", "Submission of a form with method GET and the key in a field.", site,
             "document.forms[0].submit()",
             body='<form action="/v1/events"><input name="q" value="red shoes">'
             f'<input name="api_key" value="{WORKSPACE_KEY}"></form>')
    chromium("beacon", "navigator.sendBeacon with a text body.", site,
             "navigator.sendBeacon('/v1/events','order.paid')")
    chromium("eventsource", "EventSource, with the key in the query.", site,
             f"new EventSource('/v1/events?api_key={WORKSPACE_KEY}')")
    chromium("websocket", "The handshake of a WebSocket.", site,
             f"new WebSocket('ws://{HOST}/v1/events?api_key={WORKSPACE_KEY}')")

    # Python
    for client in ["requests", "httpx", "aiohttp", "urllib", "urllib3"]:
        python(f"{client}-get-tenant-key", client, "GET with the tenant key.")
        python(f"{client}-post-json", client, "POST of JSON with the tenant key.")
        python(f"{client}-get-dotdot", client, "GET asked for as /v1/a/../events.")
        python(f"{client}-get-encoded-dotdot", client, "GET asked for as /v1/customers/%2e%2e/events.")
    for client in ["requests", "httpx", "aiohttp", "urllib3"]:
        python(f"{client}-get-raw-path", client,
               "GET of a path given with a letter outside ASCII, a space, %2f and a needless %41.")
    for client in ["httpx", "aiohttp", "urllib3"]:
        python(f"{client}-get-duplicate-key", client, "GET given two X-API-Key headers that differ.")
    for client in ["requests", "httpx", "aiohttp"]:
        python(f"{client}-post-chunked", client, "POST of a body from a generator, so chunked.")
    python("requests-get-host-header", "requests", "GET of an address, with Host given as a header.")
    python("requests-get-query-key-twice", "requests", "GET with a list of two keys for api_key.")
    python("requests-get-basic", "requests", "GET with auth=, so Basic authorization.")
    python("requests-post-form", "requests", "POST of a form.")
    python("requests-post-multipart", "requests", "POST of a multipart form with a file.")
    python("requests-post-expect", "requests", "POST with an Expect header set by hand; the body does not wait.")
    python("requests-delete", "requests", "DELETE with the management key.")
    python("httpx-get-workspace-key-query", "httpx", "GET with the workspace key in the query.")
    python("aiohttp-get-bearer", "aiohttp", "GET with a Bearer token.")
    python("aiohttp-post-expect-continue", "aiohttp", "POST with expect100=True; the body followed the 100.")
    python("urllib-post-form", "urllib", "POST of a form.")

    # JavaScript
    for client in ["nodejs-fetch", "nodejs-http", "undici", "axios", "got", "npm-node-fetch"]:
        node(f"{client}-get-tenant-key", client, "GET with the tenant key.")
        node(f"{client}-post-json", client, "POST of JSON with the tenant key.")
    for client in ["nodejs-fetch", "nodejs-http", "undici", "axios", "got", "npm-node-fetch"]:
        node(f"{client}-get-duplicate-key", client, "GET given two X-API-Key headers that differ.")
    node("nodejs-fetch-get-dotdot", "nodejs-fetch", "GET asked for as /v1/a/../customers/%2e%2e/events.")
    node("nodejs-fetch-post-stream", "nodejs-fetch", "POST of a stream, so chunked.")
    node("nodejs-fetch-post-form", "nodejs-fetch", "POST of URLSearchParams.")
    node("nodejs-http-get-dotdot", "nodejs-http", "GET with /v1/a/../events as the path option.")
    node("nodejs-http-get-lowercase-header", "nodejs-http", "GET with header names in lower case and Host last.")
    node("nodejs-http-post-expect-continue", "nodejs-http", "POST with Expect: 100-continue; the body followed the 100.")
    node("nodejs-http-post-chunked-trailers", "nodejs-http", "Chunked POST in two chunks with a trailer that names a key.")
    node("nodejs-http-delete", "nodejs-http", "DELETE with the management key.")
    node("axios-get-query-key-twice", "axios", "GET with an array of two keys for api_key in params.")
    node("axios-get-basic", "axios", "GET with the auth option, so Basic authorization.")
    node("axios-post-form", "axios", "POST of URLSearchParams.")
    node("got-get-workspace-key-query", "got", "GET with searchParams.")


# --- Clients: how to tell that each is there, and its name and version ------

def first_line(*argv):
    out = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=CLEAN,
                         timeout=TIMEOUT, check=True).stdout.decode()
    return out.splitlines()[0]


def probe(client, options):
    """Name and exact version of a client; None if it is not installed."""
    try:
        if client == "curl":
            return re.match(r"curl \S+", first_line("curl", "--version"))[0]
        if client == "wget":
            return re.match(r"GNU Wget \S+", first_line("wget", "--version"))[0]
        if client == "chromium":
            return re.match(r"Chromium \S+", first_line("chromium", "--version"))[0] + " (headless)"
        if client in ("requests", "httpx", "aiohttp", "urllib", "urllib3"):
            return first_line(options.python, "-B", str(HERE / "clients.py"), "--version", client)
        return first_line("node", str(HERE / "clients.mjs"), "--version", client)
    except (OSError, subprocess.SubprocessError, IndexError, TypeError):
        return None


# --- Running ---------------------------------------------------------------

# No proxy settings, netrc or start-up files of the user may reach a client.
CLEAN = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


def check(raw, port, scratch):
    """Complain about bytes that do not belong in test data."""
    head = raw.partition(b"\r\n\r\n")[0]
    if b"\n" in head.replace(b"\r\n", b""):
        raise BadRequest("a bare LF in the head")
    for private in (f":{port}", scratch, str(HERE), socket.gethostname(), os.path.expanduser("~")):
        if private.encode() in raw:
            raise BadRequest(f"the request names {private!r}")


def run(case, options):
    """Run one case and return the request's bytes."""
    listener = Listener(case.page, case.method)
    scratch = tempfile.mkdtemp(prefix="capture-")
    try:
        pathlib.Path(scratch, "input").write_text('{"name":"Ada"}\n')
        fill = {"{port}": str(listener.port), "{dir}": scratch, "{python}": options.python}
        argv = [re.sub(r"\{(port|dir|python)\}", lambda m: fill[m[0]], arg) for arg in case.argv]
        process = subprocess.Popen(
            argv, cwd=scratch, env={**CLEAN, "HOME": scratch}, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            if case.exits:
                _, stderr = process.communicate((case.stdin or "").encode(), timeout=TIMEOUT)
                if process.returncode:
                    raise BadRequest(f"exit status {process.returncode}: "
                                     + stderr.decode(errors="replace").strip()[-400:])
            else:  # a browser stays until it is told to go
                threading.Thread(target=process.stderr.read, daemon=True).start()
                listener.done.wait(TIMEOUT)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its own group, helpers included
            except ProcessLookupError:
                pass
            process.wait()
        if listener.error:
            raise BadRequest(listener.error)
        if listener.raw is None:
            raise BadRequest("no request arrived")
        check(listener.raw, listener.port, scratch)
        return listener.raw
    finally:
        listener.close()
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="where the files go")
    parser.add_argument("--only", default="", help="only cases whose name begins so")
    parser.add_argument("--python", default=sys.executable, help="interpreter for clients.py")
    parser.add_argument("--node-dir", default=str(HERE), help="directory that holds node_modules")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    options = parser.parse_args()
    CLEAN["CAPTURE_NODE_DIR"] = os.path.abspath(options.node_dir)

    define_cases()
    assert len({case.name for case in CASES}) == len(CASES), "two cases with one name"
    cases = [case for case in CASES if case.name.startswith(options.only)]
    if options.list:
        for case in cases:
            print(f"{case.name}\t{case.what}")
        return 0

    index_path = options.out / "captures.json"
    entries = {}
    if index_path.exists():  # keep what is not captured anew
        known = {case.name + ".http" for case in CASES}
        entries = {e["file"]: e for e in json.loads(index_path.read_text()) if e["file"] in known}
    versions, trouble = {}, []
    for case in cases:
        if case.client not in versions:
            versions[case.client] = probe(case.client, options)
        if versions[case.client] is None:
            trouble.append(f"SKIPPED {case.name}: {case.client} is not installed")
            continue
        try:
            raw = run(case, options)
        except (BadRequest, OSError, subprocess.SubprocessError) as err:
            trouble.append(f"FAILED {case.name}: {err}")
            print(trouble[-1], file=sys.stderr)
            continue
        file = case.name + ".http"
        (options.out / file).write_bytes(raw)
        entries[file] = {"file": file, "client": versions[case.client], "what": case.what}
        print(f"{file}: {len(raw)} bytes")
    index = [entries[file] for file in sorted(entries)]
    index_path.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n")

    print(f"{len(cases) - len(trouble)} of {len(cases)} captured")
    for line in trouble:
        print(line, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
