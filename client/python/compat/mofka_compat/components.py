"""Validators, partition selectors and serializers as documents."""


class _Component:
    """What a topic is created with."""

    def __init__(self, document=None):
        self.metadata = dict(document or {})
        self.metadata.setdefault("type", "default")

    @classmethod
    def from_metadata(cls, type=None, metadata=None, **configuration):  # noqa: A002
        """`from_metadata(type="schema", schema={...})`, and as it was before: `from_metadata("schema", {...})`,
        `from_metadata({...})`."""
        if isinstance(type, dict):
            type, metadata = None, type
        document = {**(metadata or {}), **configuration}
        if type is not None:
            document["type"] = type
        return cls(document)

    def document(self):
        """For the client; the default one is told by its absence."""
        return None if self.metadata == {"type": "default"} else self.metadata


class Validator(_Component):
    """Which events a topic takes."""


class PartitionSelector(_Component):
    """Which partition an event goes to."""


class Serializer(_Component):
    """How metadata is stored."""


def document(component):
    """Of a component, a document, or nothing."""
    return component.document() if isinstance(component, _Component) else component
