"""Awaiting the client's futures."""

import asyncio


async def settle(future):
    """What the future settles to, without blocking the event loop."""
    loop = asyncio.get_running_loop()
    while True:
        woken = asyncio.Event()

        def wake(woken=woken):
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                pass

        if future._completed_or_call(wake):
            settled = future.wait(0)
            # An event may have gone to another consumer in between.
            if settled is not None:
                return settled
            continue
        await woken.wait()


async def next_event(consumer):
    """One step of `async for`: ends when the topic is complete and all of it was pulled."""
    event = await consumer.pull()
    if event.event_id is None:
        raise StopAsyncIteration
    return event
