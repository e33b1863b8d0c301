"""A client of the Model Context Protocol that nobody here wrote: asks a server what it is told to, a line of JSON each way.

    ask.py legacy|auto PROGRAM ARGS…

The first line says what the server says of itself. The package checks each answer against the schema that its tool has.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError


def say(words):
    print(json.dumps(words), flush=True)


async def one(client, question):
    try:
        result = await client.call_tool(question["tool"], question["arguments"])
    except MCPError as error:
        return {"unknown": str(error)}
    except RuntimeError as error:
        return {"broken": str(error)}
    text = "\n".join(getattr(part, "text", "") for part in result.content)
    return {"error": result.is_error, "text": text, "told": result.structured_content}


async def main():
    mode, program, *arguments = sys.argv[1:]
    server = StdioServerParameters(command=program, args=arguments)
    async with Client(server, mode=mode) as client:
        tools = (await client.list_tools()).tools
        say(
            {
                "protocol": client.protocol_version,
                "server": client.server_info and client.server_info.name,
                "instructions": client.instructions,
                "tools": {
                    tool.name: {
                        "reads": tool.annotations.read_only_hint,
                        "destroys": tool.annotations.destructive_hint,
                        "takes": tool.input_schema,
                        "gives": tool.output_schema,
                    }
                    for tool in tools
                },
            }
        )
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            say(await one(client, json.loads(line)))


asyncio.run(main())
