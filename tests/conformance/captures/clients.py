"""The Python clients of capture.py: `clients.py NAME PORT` makes one request.

The host name is not in any DNS. Instead of giving each library a Host header,
which would change what it sends, the name is resolved to the listener here, so
that every client builds its request as it would in the field.

`clients.py --version CLIENT` prints the client's name and version.
"""

import asyncio
import importlib
import json
import platform
import socket
import sys

from capture import HOST, MANAGEMENT_KEY, TENANT_KEY, WORKSPACE_KEY, WRONG_KEY

BASE = "http://" + HOST
EVENTS = BASE + "/v1/events"
DOTDOT = BASE + "/v1/a/../events"
ENCODED_DOTDOT = BASE + "/v1/customers/%2e%2e/events"
RAW_PATH = BASE + "/v1/customers/Jürgen Smith/a%2fb%41"
KEY = {"X-API-Key": TENANT_KEY}
TWO_KEYS = [("X-API-Key", WRONG_KEY), ("X-API-Key", TENANT_KEY)]
EVENT = {"type": "order.paid", "amount": 1999}


def send_to(port):
    """Resolve HOST to the listener, whatever port was asked for."""
    real = socket.getaddrinfo

    def getaddrinfo(host, asked, *args, **kwargs):
        if host in (HOST, HOST.encode()):
            host, asked = "127.0.0.1", port
        return real(host, asked, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


def chunks():
    yield b'{"type":"order.paid",'
    yield b'"amount":1999}'


def with_requests(what, port):
    import requests
    if what == "get-tenant-key":
        requests.get(EVENTS, headers=KEY)
    elif what == "post-json":
        requests.post(EVENTS, headers=KEY, json=EVENT)
    elif what == "get-dotdot":
        requests.get(DOTDOT, headers=KEY)
    elif what == "get-encoded-dotdot":
        requests.get(ENCODED_DOTDOT, headers=KEY)
    elif what == "get-raw-path":
        requests.get(RAW_PATH, headers=KEY)
    elif what == "get-host-header":
        requests.get(f"http://127.0.0.1:{port}/v1/events", headers={**KEY, "Host": HOST})
    elif what == "get-query-key-twice":
        requests.get(EVENTS, params={"api_key": [WRONG_KEY, WORKSPACE_KEY]})
    elif what == "get-basic":
        requests.get(EVENTS, auth=("shop", "example"))
    elif what == "post-form":
        requests.post(EVENTS, headers=KEY, data={"type": "order.paid", "note": "50% off & thank you"})
    elif what == "post-multipart":
        requests.post(EVENTS, headers=KEY, data={"type": "order.paid"},
                      files={"note": ("note.txt", b"thank you\n", "text/plain")})
    elif what == "post-expect":
        requests.post(EVENTS, headers={**KEY, "Expect": "100-continue"}, json=EVENT)
    elif what == "post-chunked":
        requests.post(EVENTS, headers=KEY, data=chunks())
    elif what == "delete":
        requests.delete(BASE + "/v1/customers/cus_7",
                        headers={"Authorization": "ManagementKey-v1 " + MANAGEMENT_KEY})
    else:
        raise KeyError(what)


def with_httpx(what, _port):
    import httpx
    if what == "get-tenant-key":
        httpx.get(EVENTS, headers=KEY)
    elif what == "post-json":
        httpx.post(EVENTS, headers=KEY, json=EVENT)
    elif what == "get-dotdot":
        httpx.get(DOTDOT, headers=KEY)
    elif what == "get-encoded-dotdot":
        httpx.get(ENCODED_DOTDOT, headers=KEY)
    elif what == "get-raw-path":
        httpx.get(RAW_PATH, headers=KEY)
    elif what == "get-duplicate-key":
        httpx.get(EVENTS, headers=TWO_KEYS)
    elif what == "get-workspace-key-query":
        httpx.get(BASE + "/v1/coupons/SPRING", params={"api_key": WORKSPACE_KEY})
    elif what == "post-chunked":
        httpx.post(EVENTS, headers=KEY, content=chunks())
    else:
        raise KeyError(what)


def with_aiohttp(what, _port):
    import aiohttp

    async def stream():
        for chunk in chunks():
            yield chunk

    async def go():
        async with aiohttp.ClientSession() as session:
            if what == "get-tenant-key":
                response = session.get(EVENTS, headers=KEY)
            elif what == "post-json":
                response = session.post(EVENTS, headers=KEY, json=EVENT)
            elif what == "get-dotdot":
                response = session.get(DOTDOT, headers=KEY)
            elif what == "get-encoded-dotdot":
                response = session.get(ENCODED_DOTDOT, headers=KEY)
            elif what == "get-raw-path":
                response = session.get(RAW_PATH, headers=KEY)
            elif what == "get-duplicate-key":
                response = session.get(EVENTS, headers=TWO_KEYS)
            elif what == "get-bearer":
                response = session.get(EVENTS, headers={"Authorization": "Bearer example-token-0001"})
            elif what == "post-chunked":
                response = session.post(EVENTS, headers=KEY, data=stream())
            elif what == "post-expect-continue":
                response = session.post(EVENTS, headers=KEY, json=EVENT, expect100=True)
            else:
                raise KeyError(what)
            async with response as answer:
                await answer.read()

    asyncio.run(go())


def with_urllib(what, _port):
    from urllib.parse import urlencode
    from urllib.request import Request, urlopen
    if what == "get-tenant-key":
        request = Request(EVENTS, headers=KEY)
    elif what == "post-json":
        request = Request(EVENTS, data=json.dumps(EVENT).encode(),
                          headers={**KEY, "Content-Type": "application/json"})
    elif what == "get-dotdot":
        request = Request(DOTDOT, headers=KEY)
    elif what == "get-encoded-dotdot":
        request = Request(ENCODED_DOTDOT, headers=KEY)
    elif what == "post-form":
        request = Request(EVENTS, data=urlencode(EVENT).encode(), headers=KEY)
    else:
        raise KeyError(what)
    urlopen(request).read()


def with_urllib3(what, _port):
    import urllib3
    pool = urllib3.PoolManager()
    if what == "get-tenant-key":
        pool.request("GET", EVENTS, headers=KEY)
    elif what == "post-json":
        pool.request("POST", EVENTS, headers=KEY, json=EVENT)
    elif what == "get-dotdot":
        pool.request("GET", DOTDOT, headers=KEY)
    elif what == "get-encoded-dotdot":
        pool.request("GET", ENCODED_DOTDOT, headers=KEY)
    elif what == "get-raw-path":
        pool.request("GET", RAW_PATH, headers=KEY)
    elif what == "get-duplicate-key":
        headers = urllib3.HTTPHeaderDict()
        for name, value in TWO_KEYS:
            headers.add(name, value)
        pool.request("GET", EVENTS, headers=headers)
    else:
        raise KeyError(what)


def main(name, argument):
    if name == "--version":
        if argument == "urllib":
            print("Python urllib.request " + platform.python_version())
        else:
            module = importlib.import_module(argument)
            below = ""
            if argument == "requests":
                below = ", urllib3 " + importlib.import_module("urllib3").__version__
            print(f"Python {argument} {module.__version__} (Python {platform.python_version()}{below})")
        return
    client, _, what = name.partition("-")
    send_to(int(argument))
    {"requests": with_requests, "httpx": with_httpx, "aiohttp": with_aiohttp,
     "urllib": with_urllib, "urllib3": with_urllib3}[client](what, int(argument))


if __name__ == "__main__":
    main(*sys.argv[1:])
