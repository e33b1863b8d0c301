"""An OPC UA server for tests: `opcua.py PORT FOLDER [MILLISECONDS]`. Prints the SHA-256 of its certificate, which stays in the folder, once
it listens. A session of which it hears nothing ends after so many milliseconds, whatever the client asks for. At SIGUSR1 it ends all sessions
without a word, at SIGUSR2 all connections.

Anybody may read; who gives a name must be `reader` with the password `swordfish`. In namespace 2:
`Pump.Pressure` 1.5, `Pump.Flow` a float 20.25, `Pump.Level` an Int16 -15, `Pump.Total` a UInt64 2^53, `Pump.On` true, `Pump.Broken` and
`Pump.Shaky` with a status that is not good, `Pump.Name` a text, `Pump.Creep` that grows by 0.1 at each tick, and `Pump.Clock`, which changes
each 50 ms: it is its own source timestamp in milliseconds since 1970.
"""

import asyncio
import datetime
import hashlib
import signal
import sys
import time
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_subscription import InternalSubscription
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

URI = "urn:plant:server"
TICK_MS = 50


OVERFLOW = 0x480
"""In a status: values before this one did not fit into the queue."""

enqueue = InternalSubscription._enqueue_event


async def enqueue_and_tell(self, item, data, size, queue):
    """As the library does it, but for the flag that the standard asks for."""
    is_full = size != 0 and len(queue.get(item, ())) >= size
    await enqueue(self, item, data, size, queue)
    oldest = queue[item][0] if is_full else None
    if isinstance(oldest, ua.MonitoredItemNotification):
        lost = oldest.Value
        status = ua.StatusCode(lost.StatusCode.value | OVERFLOW)
        oldest.Value = ua.DataValue(lost.Value, status, lost.SourceTimestamp, lost.ServerTimestamp)


InternalSubscription._enqueue_event = enqueue_and_tell


class Users:
    """Who may come in."""

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username is None or (username == "reader" and password == "swordfish"):
            return User(role=UserRole.User, name=username)
        return None


def certificate(folder):
    """The server's certificate and key; made if they are not there."""
    shown, key_file = folder / "server.der", folder / "server.key.pem"
    if not shown.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plant")])
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=900))
            # Plants do not renew: it has been over for a year.
            .not_valid_after(now - datetime.timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=False)
            .add_extension(usage, critical=False)
            .sign(key, hashes.SHA256())
        )
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        shown.write_bytes(made.public_bytes(serialization.Encoding.DER))
    return shown, key_file


async def main():
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    shown, key_file = certificate(folder)
    server = Server(user_manager=Users())
    await server.init()
    if len(sys.argv) > 3:
        server.iserver.min_session_timeout_ms = server.iserver.max_session_timeout_ms = float(sys.argv[3])
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant/server")
    await server.set_application_uri(URI)
    kinds = ua.SecurityPolicyType
    server.set_security_policy(
        [
            kinds.NoSecurity,
            kinds.Basic256Sha256_Sign,
            kinds.Basic256Sha256_SignAndEncrypt,
            kinds.Aes128Sha256RsaOaep_SignAndEncrypt,
            kinds.Aes256Sha256RsaPss_SignAndEncrypt,
        ]
    )
    await server.load_certificate(str(shown))
    await server.load_private_key(str(key_file))
    space = await server.register_namespace("urn:plant")
    assert space == 2, space
    pump = await server.nodes.objects.add_object(space, "Pump")

    async def variable(name, value, kind):
        node = ua.NodeId(f"Pump.{name}", space)
        return await pump.add_variable(node, name, value, varianttype=kind)

    await variable("Pressure", 1.5, ua.VariantType.Double)
    await variable("Flow", 20.25, ua.VariantType.Float)
    await variable("Level", -15, ua.VariantType.Int16)
    await variable("Total", 2**53, ua.VariantType.UInt64)
    await variable("On", True, ua.VariantType.Boolean)
    await variable("Name", "pump 1", ua.VariantType.String)
    creep = await variable("Creep", 0.0, ua.VariantType.Double)
    clock = await variable("Clock", 0, ua.VariantType.Int64)

    async def tick(at_ms):
        at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.timezone.utc)
        value = ua.Variant(at_ms, ua.VariantType.Int64)
        await server.write_attribute_value(clock.nodeid, ua.DataValue(value, SourceTimestamp=at))
        return at

    begin_ms = int(time.time() * 1000)
    await tick(begin_ms)
    for name, status in (("Broken", ua.StatusCodes.BadSensorFailure), ("Shaky", ua.StatusCodes.UncertainLastUsableValue)):
        node = await variable(name, 7.0, ua.VariantType.Double)
        value = ua.Variant(7.0, ua.VariantType.Double)
        now = datetime.datetime.now(datetime.timezone.utc)
        await server.write_attribute_value(
            node.nodeid, ua.DataValue(value, StatusCode=ua.StatusCode(status), SourceTimestamp=now)
        )
    async def end_sessions():
        for client in list(server.bserver.clients):
            if client.processor.session:
                await client.processor.session.close_session(True)

    def end_connections():
        for client in list(server.bserver.clients):
            client.transport.close()

    async with server:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(end_sessions()))
        loop.add_signal_handler(signal.SIGUSR2, end_connections)
        print(hashlib.sha256(shown.read_bytes()).hexdigest(), flush=True)
        ticks = (int(time.time() * 1000) - begin_ms) // TICK_MS
        while True:
            ticks += 1
            at_ms = begin_ms + ticks * TICK_MS
            await asyncio.sleep(max(0.0, at_ms / 1000 - time.time()))
            at = await tick(at_ms)
            value = ua.Variant(ticks * 0.1, ua.VariantType.Double)
            await server.write_attribute_value(creep.nodeid, ua.DataValue(value, SourceTimestamp=at))


asyncio.run(main())
