"""Import a built function once, in this fresh interpreter, and say what it cost: JSON with wall and CPU milliseconds.

Usage: python cold_import.py LAYER FUNCTION MODULE..., with folders as `sam build` makes them. Modules after the first
are imported outside the measurement; with them, the first one (functions.api) is asked for `GET /openapi.json` too.
"""

import importlib
import json
import sys
import time


def main() -> None:
    layer, function, first, *others = sys.argv[1:]
    sys.path[:0] = [function, f"{layer}/python"]
    wall, cpu = time.perf_counter(), time.process_time()
    module = importlib.import_module(first)
    spent = {"wall": 1000 * (time.perf_counter() - wall), "cpu": 1000 * (time.process_time() - cpu)}
    handlers = [module, *(importlib.import_module(other) for other in others)]
    report = {**spent, "handlers": sum(callable(getattr(one, "lambda_handler", None)) for one in handlers)}
    if others:
        report["answer"] = _openapi_status(module)
    print(json.dumps(report))


def _openapi_status(api: object) -> int:
    http = {"method": "GET", "path": "/openapi.json", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": ""}
    context = {"http": http, "requestId": "1", "stage": "$default", "domainName": "localhost", "timeEpoch": 0}
    event = {"version": "2.0", "rawPath": "/openapi.json", "rawQueryString": "", "headers": {}}
    response = api.lambda_handler({**event, "requestContext": context}, None)  # type: ignore[attr-defined]
    json.loads(response["body"])
    return int(response["statusCode"])


if __name__ == "__main__":
    main()
