"""A stream of camera frames, of which a consumer fetches a region only. Usage: images.py GROUP_FILE TOPIC

The region is cut out by the node: what is outside is neither read from its disk nor sent."""

import sys

import mofka
import numpy

HEIGHT, WIDTH = 512, 640
TOP, LEFT, ROWS, COLUMNS = 100, 200, 32, 48

group_file, topic_name = sys.argv[1:]
topic = mofka.Driver(group_file).create_topic(topic_name)

with topic.producer("camera") as producer:
    for number in range(20):
        frame = numpy.full((HEIGHT, WIDTH), number, dtype=numpy.uint16)
        frame[TOP : TOP + ROWS, LEFT : LEFT + COLUMNS] += 1000
        # Nobody writes to this frame again: it is sent from where it is.
        producer.push({"frame": number, "shape": frame.shape, "dtype": str(frame.dtype)}, frame, copy=False)


def region(metadata, descriptor):
    """The rows first, then in these the columns; of every second frame."""
    if metadata["frame"] % 2:
        return None
    pixel = numpy.dtype(metadata["dtype"]).itemsize
    width = metadata["shape"][1] * pixel
    rows = descriptor.make_sub_view(offset=TOP * width, size=ROWS * width)
    return rows.make_strided_view(
        offset=LEFT * pixel, num_blocks=ROWS, block_size=COLUMNS * pixel, gap_size=width - COLUMNS * pixel
    )


def place(metadata, descriptor):
    """Straight into an array."""
    return [numpy.empty((ROWS, COLUMNS), metadata["dtype"])] if descriptor else []


with topic.consumer("analysis", data_selector=region, data_allocator=place) as consumer:
    for _ in range(20):
        event = consumer.pull().wait()
        if event.data:
            (pixels,) = event.data
            assert (pixels == event.metadata["frame"] + 1000).all()
            print(f"frame {event.metadata['frame']}: {pixels.nbytes} of {event.data_size} bytes, mean {pixels.mean()}")
