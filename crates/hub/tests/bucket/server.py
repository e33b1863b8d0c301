"""A store that speaks S3, on loopback, with one empty bucket: prints its port, and ends when its standard input does."""

import sys
import urllib.request

try:
    from moto.server import ThreadedMotoServer
except ImportError as error:
    print(error)
    sys.exit(3)

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
port = server.get_host_and_port()[1]
urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{sys.argv[1]}", method="PUT")).read()
print(port, flush=True)
sys.stdin.read()
server.stop()
