"""The images' HEALTHCHECK: exit code 0 while the runtime answers 200 to /ping."""

import http.client
import os
import sys

# No urllib: it would ask a proxy, where the environment names one.
connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["RUNTIME_PORT"]), timeout=2)
try:
    connection.request("GET", "/ping")
    status = connection.getresponse().status
except OSError as refused:
    sys.exit(f"the runtime does not answer: {refused}")
if status != http.HTTPStatus.OK:
    sys.exit(f"the runtime answers {status}")
