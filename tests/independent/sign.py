"""Signs a request, described as JSON on standard input, with a client that others wrote.

Prints the signed request as JSON, or sends it with `requests` and prints the status.
"""

import json
import sys

import requests


def escherauth(ask):
    from escherauth.escherauth import Escher, EscherRequestsAuth

    profile = ask["profile"]
    options = {
        "algo_prefix": profile["algorithm_prefix"],
        "vendor_key": profile["vendor_key"],
        "hash_algo": profile["hash"].upper(),
        "auth_header_name": profile["auth_header"],
        "date_header_name": profile["date_header"],
    }
    given = (ask["key"], ask["secret"], profile["credential_scope"], options)
    if ask.get("expires"):
        url = Escher(*given).presign_url(ask["url"], ask["expires"])
        return requests.Request("GET", url).prepare()
    request = requests.Request(ask["method"], ask["url"], headers=dict(ask["headers"]), data=body(ask))
    if not ask.get("send"):
        request.headers["Host"] = ask["host"]
    request.auth = EscherRequestsAuth(*given)
    return request.prepare()


def botocore(ask):
    from botocore.auth import SigV4Auth, SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    region, service, _ = ask["profile"]["credential_scope"].split("/")
    request = AWSRequest(method=ask["method"], url=ask["url"], headers=dict(ask["headers"]), data=body(ask))
    given = Credentials(ask["key"], ask["secret"])
    if ask.get("expires"):
        SigV4QueryAuth(given, service, region, expires=ask["expires"]).add_auth(request)
    else:
        SigV4Auth(given, service, region).add_auth(request)
    return request.prepare()


def body(ask):
    return ask["body"].encode() if ask.get("body") is not None else None


def main():
    ask = json.load(sys.stdin)
    signed = {"escherauth": escherauth, "botocore": botocore}[ask["client"]](ask)
    if ask.get("send"):
        session = requests.Session()
        session.trust_env = False
        if ask["client"] == "botocore":
            signed = requests.Request(
                signed.method, signed.url, headers={k: as_text(v) for k, v in signed.headers.items()}, data=signed.body
            ).prepare()
        answer = session.send(signed, timeout=60)
        print(json.dumps({"status": answer.status_code, "body": answer.text}))
        return
    text = as_text(signed.body) if signed.body is not None else ""
    headers = [[name, as_text(value)] for name, value in signed.headers.items()]
    print(json.dumps({"method": signed.method, "url": signed.url, "headers": headers, "body": text}))


def as_text(value):
    return value.decode() if isinstance(value, bytes) else value


main()
