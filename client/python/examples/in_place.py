"""A camera whose frames are filled where the node reads them. Usage: in_place.py GROUP_FILE TOPIC

With the node on the same machine (na+sm or unix://) nothing is copied to it on the way; over a network the same program works, too."""

import sys

import mofka
import numpy

HEIGHT, WIDTH = 512, 640
FRAME = numpy.dtype((numpy.uint16, (HEIGHT, WIDTH)))


def read_out(number, frame):
    """What the camera does; every fifth frame is lost."""
    frame[:] = number + numpy.arange(WIDTH)
    return number % 5 != 4


group_file, topic_name = sys.argv[1:]
topic = mofka.Driver(group_file).create_topic(topic_name)
shared = 0

with topic.producer("camera") as producer:
    for number in range(10):
        # Not committed, it is as if it had never been.
        with producer.claim({"frame": number}, FRAME.itemsize) as room:
            frame = numpy.frombuffer(room, dtype=numpy.uint16).reshape(HEIGHT, WIDTH)
            is_whole = read_out(number, frame)
            # Nobody may look at it any more when it is committed.
            del frame
            if is_whole:
                shared += room.is_shared
                room.commit()
print(f"{producer.close()['acknowledged']} frames acknowledged, {shared} filled in shared memory")

with topic.consumer("analysis") as consumer:
    for _ in range(8):
        event = consumer.pull().wait()
        pixels = numpy.frombuffer(event.data[0], dtype=numpy.uint16)
        print(f"frame {event.metadata['frame']}: mean {pixels.mean()}")
