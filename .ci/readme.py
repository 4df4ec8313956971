"""Follow README and docs/requests.md to the letter: `make run`, paste their curl lines, look at what comes, stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PORT = 8080


def descendants(pid: int) -> list[int]:
    """Every process that `pid` started, directly or not."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    children = [child for child, parent in parents if parent == pid]
    return children + [further for child in children for further in descendants(child)]


def main() -> None:
    pages = [(ROOT / page).read_text() for page in ("README.md", "docs/requests.md")]
    text = "\n".join(pages)
    curls = re.findall(r"```(?:sh|bash)\n(curl [^`]*?:predict.*?)```", text, re.DOTALL)
    assert ":predict" in pages[0], "README.md should have a curl line for text"
    assert len(curls) >= 4, "docs/requests.md should have three curl lines for images"
    allowed = re.search(r"RUNTIME_FETCH_ALLOW=(\S+) make run", text)
    pictures = re.search(r"python3 (-m http\.server .*?)(?:  |$)", text, re.MULTILINE)
    assert allowed, "docs/requests.md does not say how an image may be fetched"
    assert pictures, "docs/requests.md does not serve its pictures"
    server = subprocess.Popen(
        ["make", "run"],
        cwd=ROOT,
        env={**os.environ, "RUNTIME_FETCH_ALLOW": allowed[1]},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout
    files = subprocess.Popen(
        [sys.executable, *pictures[1].split()], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        started = time.monotonic()
        for line in server.stdout:
            print("  |", line, end="")
            if "ready" in line.lower():
                break
        else:
            sys.exit("make run ended before it was ready")
        print(f"ready after {time.monotonic() - started:.1f} s, installation included")
        for curl in curls:
            answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=120)
            body = json.loads(answer.stdout)
            assert "image" in body, body
            with urllib.request.urlopen(body["image"], timeout=30) as image:
                png = image.read()
            assert image.headers["content-type"] == "image/png", image.headers
            assert png.startswith(b"\x89PNG\r\n\x1a\n"), png[:16]
            print(f"a page's curl line gave {body['image'].split('?')[0]}: {len(png)} bytes of PNG")
    finally:
        files.terminate()
        files.wait()
        started_by_it = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert len(started_by_it) >= 2, f"API and runtime should have been running: {started_by_it}"
    left = [pid for pid in started_by_it if Path(f"/proc/{pid}").exists()]
    assert not left, f"still running after SIGTERM: {left}"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", PORT)), "something still listens"
    print("stopped cleanly, nothing left running")


if __name__ == "__main__":
    main()
