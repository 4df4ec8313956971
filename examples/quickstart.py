"""A picture, the same one again, and another that starts from it: `python examples/quickstart.py [ADDRESS] [API_KEY]`.

Needs `httpx` and a deployment that runs (`make run`); writes picture.png and again.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx


def main(address: str = "http://127.0.0.1:8080", key: str = "") -> None:
    with httpx.Client(base_url=address, headers={"x-api-key": key} if key else {}, timeout=120) as darkroom:

        def predict(**asked: object) -> dict[str, object]:
            answer = darkroom.post("/v1/models/m:predict", json=asked)
            if answer.is_error:
                sys.exit(f"{answer.status_code}: {answer.json()['detail']}")
            told: dict[str, object] = answer.json()
            while "image" not in told:  # 202: it takes longer than a gateway waits
                told = darkroom.get(f"/v1/jobs/{told['id']}").json()
                if told["status"] in ("failed", "cancelled"):
                    sys.exit(f"{told['id']} has {told['status']}: {told['error']}")
            return told

        prompt = "a large red heart on a blue background"
        first = predict(prompt=prompt)
        Path("picture.png").write_bytes(darkroom.get(f"/v1/images/{first['id']}-0").content)
        print(f"picture.png: {prompt}, seed {first['seed']}, {first['image']}")

        started = predict(prompt="a large red heart on a green background", image=f"job:{first['id']}/0", strength=0.8)
        Path("again.png").write_bytes(darkroom.get(f"/v1/images/{started['id']}-0").content)
        print("again.png: the same, drawn again on green")

        for job in darkroom.get("/v1/jobs", params={"limit": 2}).json()["jobs"]:
            print(job["created_at"], job["status"], job["request"]["prompt"])


if __name__ == "__main__":
    main(*sys.argv[1:])
