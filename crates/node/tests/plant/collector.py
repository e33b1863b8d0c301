"""A collector of OpenTelemetry for tests: `collector.py PORT`. It parses what is sent by the protocol's own definitions.

What it cannot parse is refused with 400. The 2nd request is sent away for a second, the 5th is too much for now, requests of more than 12000
bytes are too large, and one log record of the 2nd request with logs is left out. `GET /seen` gives what it has.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

seen = {"requests": 0, "refused": [], "resource": {}, "logs": [], "points": [], "too_large": 0, "with_logs": 0}


def plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, seen)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen["requests"] += 1
        number = seen["requests"]
        if number == 2:
            return self.answer(503, {"message": "not now"}, [("Retry-After", "1")])
        if number == 5:
            return self.answer(429, {"message": "too much"})
        if len(body) > 12_000:
            seen["too_large"] += 1
            return self.answer(413, {"message": "too large"})
        try:
            if self.headers["Content-Type"] != "application/json":
                raise ValueError(self.headers["Content-Type"])
            if self.path == "/v1/logs":
                self.logs(json_format.Parse(body, ExportLogsServiceRequest()))
            elif self.path == "/v1/metrics":
                self.metrics(json_format.Parse(body, ExportMetricsServiceRequest()))
            else:
                raise ValueError(self.path)
        except Exception as error:  # whatever it is, the sender shall hear it
            seen["refused"].append(str(error))
            self.answer(400, {"message": str(error)})

    def logs(self, request):
        seen["with_logs"] += 1
        left_out = 0
        for resource in request.resource_logs:
            seen["resource"] = plain(resource.resource.attributes)
            for scope in resource.scope_logs:
                for log in scope.log_records:
                    if seen["with_logs"] == 2 and left_out == 0:
                        left_out = 1
                        continue
                    body = {kv.key: json_format.MessageToDict(kv.value) for kv in log.body.kvlist_value.values}
                    seen["logs"].append(
                        {
                            "id": plain(log.attributes)["selvedge.id"],
                            "event": log.event_name,
                            "severity": log.severity_number,
                            "t": log.time_unix_nano,
                            "observed": log.observed_time_unix_nano,
                            "body": body,
                        }
                    )
        partly = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "one too many"}}
        self.answer(200, partly if left_out else {})

    def metrics(self, request):
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.gauge.data_points:
                        of = plain(point.attributes)
                        seen["points"].append(
                            {"name": metric.name, "of": of, "t": point.time_unix_nano, "value": point.as_double}
                        )
        self.answer(200, {})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector).serve_forever()
