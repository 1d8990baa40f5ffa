"""Data of one event as a file."""

import io


class DataReader(io.RawIOBase):
    """An event's data at its node, read in pieces (Event.open_data). A file of Python's: read, readinto, seek, tell, and whatever takes a
    binary file.

    What was selected of the data, and all of it when nothing was. Reading asks the node for up to 8 MiB at a time, and for the next as
    well when it goes on where it stopped. One thread at a time may use it. After a fork, a child gets ForkedError.

    Raises FileNotFoundError when retention dropped the event, TimeoutError when no node answers, OSError for bytes that are damaged.
    """

    def __init__(self, pieces):
        self._pieces = pieces

    @property
    def size(self):
        """Bytes that there are to read in all."""
        return self._pieces.size

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        """Fills a writable buffer; less only at the end, and where what follows cannot be read: the next call says why. Returns how
        many bytes that are."""
        self._checkClosed()
        return self._pieces.readinto(buffer)

    def readall(self):
        """The rest, in one piece. What it raises leaves the place as it was."""
        begin = self.tell()
        rest = bytearray(max(0, self.size - begin))
        filled = 0
        try:
            with memoryview(rest) as room:
                while filled < len(rest) and (count := self.readinto(room[filled:])):
                    filled += count
        except BaseException:
            self.seek(begin)
            raise
        del rest[filled:]
        return bytes(rest)

    def seek(self, offset, whence=io.SEEK_SET):
        self._checkClosed()
        return self._pieces.seek(offset, whence)

    def tell(self):
        return self.seek(0, io.SEEK_CUR)

    def __repr__(self):
        return f"<DataReader of {self.size} bytes>"
