#!/usr/bin/env python3
"""Prints a token for the chat: a JSON Web Token, signed with HMAC-SHA256 (HS256).

CHAT_SECRET is the `secret` of the plugin's config; not an argument, which other users could see.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
import time


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sub", help="who it is, for programs: the uid, 1 to 64 characters")
    parser.add_argument("--name", help="who it is, for people; the same if left out")
    parser.add_argument("--hours", type=float, default=8, help="how long it is valid; 8 if left out")
    asked = parser.parse_args()
    secret = os.environ.get("CHAT_SECRET", "")
    if len(secret.encode()) < 32:
        sys.exit("CHAT_SECRET is to be the plugin's secret, of 32 bytes or more")
    claims = {"sub": asked.sub, "exp": int(time.time() + asked.hours * 3600)}
    if asked.name:
        claims["name"] = asked.name
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = ".".join(part(json.dumps(it).encode()) for it in parts)
    signature = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    print(f"{signed}.{part(signature)}")


main()
