"""Speaks the bench protocol with the library `websockets`: kinds, sizes, compression offer,
pings, groups, close. Any difference is an assertion that fails."""

import asyncio
import sys

import websockets

DEADLINE = 20


async def main(url):
    async with websockets.connect(url, max_size=None) as one, websockets.connect(
        url, max_size=None, compression=None
    ) as two:
        await one.send("E:Grüße")
        assert await one.recv() == "Grüße"
        await one.send(b"E:\x00\xff")
        assert await one.recv() == b"\x00\xff"
        for size in (0, 1, 125, 126, 65535, 65536, 500_000):
            payload = "x" * size
            await two.send("E:" + payload)
            assert await two.recv() == payload, size
        # A message in fragments is one message.
        await one.send(["E:", "in ", "parts"])
        assert await one.recv() == "in parts"
        await (await one.ping())
        for client in (one, two):
            await client.send("J:g")
            await client.send("E:joined")
            assert await client.recv() == "joined"
        await one.send("G:g:to both")
        assert await one.recv() == "to both"
        assert await two.recv() == "to both"
        await two.send("I:")
        await one.send("K:" + await two.recv())
        assert await two.recv() == "bye"
        await two.wait_closed()
        assert two.close_code == 1000, two.close_code
    assert one.close_code == 1000, one.close_code


asyncio.run(asyncio.wait_for(main(sys.argv[1]), DEADLINE))
