"""The exceptions of the client. All of them are MofkaError."""


class MofkaError(RuntimeError):
    """Something went wrong in Mofka. The text says what was tried and why it failed."""


class DriverError(MofkaError):
    """Something could not be asked of the nodes, or they refused it."""


class UnreachableError(DriverError):
    """No node answers, or the group file cannot be read."""


class TopicExistsError(DriverError):
    """A topic of this name exists."""


class TopicNotFoundError(DriverError):
    """There is no topic of this name."""


class ComponentError(MofkaError):
    """A validator, partition selector or serializer cannot be made from its document in this process."""


class PushError(MofkaError):
    """An event was not taken by push: nothing of it was queued.

    What Producer.push_many raises, whatever it is, has `pushed`: the futures of the events before it."""


class InvalidMetadata(PushError):
    """Metadata is not JSON, or the topic's validator refuses it."""


class DeliveryError(MofkaError):
    """A pushed event was not acknowledged.

    Attributes:
        reason: why, as one word ("unreachable", "timed_out", "gone", or the node's own error code).
        may_be_stored: whether it was sent and only the answer is missing.
    """

    def __init__(self, text: str, reason: str = "", may_be_stored: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.may_be_stored = may_be_stored


class PullError(MofkaError):
    """A pull gives no event. Later pulls may give one.

    Attributes:
        event_id, partition: which event it is about, None when it is about none.
    """

    def __init__(self, text: str, event_id: "int | None" = None, partition: "int | None" = None) -> None:
        super().__init__(text)
        self.event_id = event_id
        self.partition = partition


class StopEventProcessor(Exception):
    """Raised by the function of Consumer.process: no more events. It is no error."""


class AcknowledgeError(MofkaError):
    """An acknowledgement did not become durable."""


class ConsumerError(MofkaError):
    """A consumer cannot be made, or cannot do what it was asked."""


class ViewError(MofkaError):
    """A view reaches beyond the data, its segments overlap or are out of order, or a reference would have nothing to refer to."""


class ClosedError(MofkaError):
    """The producer or the consumer is closed."""


class ForkedError(MofkaError):
    """It was made by the parent of this process, and only that can use it. Connect again in the child."""
