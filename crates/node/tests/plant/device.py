"""A Modbus device for tests: `device.py tcp PORT` or `device.py rtu`, which prints the line to open.

Holding registers 100-105 are three floats, register 110 is -200, register 120 is not there, registers 130-139 may be written, input
register 30 is 300; coil 3 is on.
"""

import asyncio
import os
import sys
import threading
import tty

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def device():
    coils = [SimData(0, values=[False, False, False, True] + [False] * 12, datatype=DataType.BITS)]
    discrete = [SimData(0, values=[True] + [False] * 15, datatype=DataType.BITS)]
    holding = [
        SimData(100, values=[1.5, 20.25, -3.0], datatype=DataType.FLOAT32),
        SimData(110, values=-200, datatype=DataType.INT16),
        SimData(130, values=[0] * 10, datatype=DataType.REGISTERS),
    ]
    inputs = [SimData(30, values=300, datatype=DataType.UINT16)]
    return SimDevice(1, simdata=(coils, discrete, holding, inputs))


def line():
    """Two ends of a serial line: their names."""
    (a, a_end), (b, b_end) = os.openpty(), os.openpty()
    for end in (a, b, a_end, b_end):
        tty.setraw(end)

    def carry(source, sink):
        while True:
            os.write(sink, os.read(source, 1024))

    for source, sink in ((a, b), (b, a)):
        threading.Thread(target=carry, args=(source, sink), daemon=True).start()
    return os.ttyname(a_end), os.ttyname(b_end)


async def main():
    if sys.argv[1] == "tcp":
        server = ModbusTcpServer(device(), address=("127.0.0.1", int(sys.argv[2])))
    else:
        ours, theirs = line()
        server = ModbusSerialServer(device(), port=ours, baudrate=19200)
        print(theirs, flush=True)
    await server.serve_forever()


asyncio.run(main())
