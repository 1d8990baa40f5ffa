"""JSON text of documents, for each event that is pushed."""

from json import JSONEncoder, encoder


def make_encode():
    """A function from a document to its JSON text, without spaces: that of Python's encoder, which makes itself anew for each document;
    here that is done once."""
    plain = JSONEncoder(separators=(",", ":"), allow_nan=False)
    try:
        pieces = encoder.c_make_encoder(
            None, plain.default, encoder.encode_basestring_ascii, None, ":", ",", False, False, False
        )
        is_known = "".join(pieces({"a": [1]}, 0)) == '{"a":[1]}'
    except TypeError:
        is_known = False
    if not is_known:
        # This Python has none, or another one.
        return plain.encode
    join = "".join

    def encode(document):
        try:
            return join(pieces(document, 0))
        except RecursionError:
            raise ValueError("the document is nested too deep, or contains itself") from None

    return encode
