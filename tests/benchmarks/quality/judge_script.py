"""A judge for tests, run as a process of its own: mean byte of the file's content, and every way to misbehave.

python judge_script.py [--die-at WORD] [--hang-at WORD] [--nan-at WORD] [--skip-at WORD] [--mumble] [--all-at-once]
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

OPTIONS = dict(zip(sys.argv[1:], [*sys.argv[2:], ""], strict=False))


def at(option, ask):
    return option in OPTIONS and OPTIONS[option] in ask["prompt"]


def answer(ask):
    if at("--die-at", ask):
        print("model fell over", file=sys.stderr, flush=True)
        sys.exit(3)
    if at("--kill-at", ask):
        os.kill(os.getpid(), signal.SIGKILL)
    if at("--hang-at", ask):
        time.sleep(600)
    if at("--chatter-at", ask):
        while True:
            print("Loading checkpoint shards")
    if at("--endless-line-at", ask):
        while True:
            sys.stdout.write("." * 65536)
    if at("--groan-at", ask):
        sys.stderr.write("warning\n" * 400_000)
    if at("--huge-at", ask):
        print(f'{{"id": "{ask["id"]}", "scores": {{"light": 1{"0" * 400}, "length": 1}}}}', flush=True)
        return
    if at("--skip-at", ask):
        return
    if at("--broken-at", ask):
        print(json.dumps({"id": ask["id"], "error": "cannot decode"}), flush=True)
        return
    if at("--garbage-at", ask):
        print('{"id": "' + ask["id"] + '", "scores": {"light"', flush=True)
        return
    if at("--half-at", ask):
        print(json.dumps({"id": ask["id"], "scores": {"light": 1.0}}), flush=True)
        return
    content = Path(ask["file"]).read_bytes()
    light = float("nan") if at("--nan-at", ask) else sum(content) / len(content)
    if "--mumble" in OPTIONS:
        print("Loading checkpoint shards: 100%\n[1, 2]\n" + json.dumps({"id": "nobody", "scores": {}}))
    if "--count" in OPTIONS:
        with Path(OPTIONS["--count"]).open("a", encoding="utf-8") as file:
            file.write(ask["prompt"] + "\n")
    print(json.dumps({"id": ask["id"], "scores": {"light": light, "length": len(ask["prompt"])}}), flush=True)


def main():
    if "--describe" in OPTIONS:
        if "--missing" in OPTIONS:
            print("weights are not there", file=sys.stderr)
            return 1
        print("a library's greeting")
        if "--chatter" in OPTIONS:
            while True:
                print("Loading checkpoint shards")
        columns = {"light": {"what": "mean byte"}, "length": {"better": -1, "digits": 1}}
        print(json.dumps({"name": "Light", "version": "1", "kinds": ["image", "video"], "columns": columns}))
        return 0
    asks = map(json.loads, sys.stdin)
    for ask in list(asks) if "--all-at-once" in OPTIONS else asks:
        answer(ask)
    return 0


if __name__ == "__main__":
    sys.exit(main())
