#include "producer.hpp"

#include "errors.hpp"
#include "interpreter.hpp"

namespace mofka_diaspora {

namespace {

/// Data from which on it is sent from where it is; what is shorter is copied, and let go of at once.
constexpr std::size_t sharedBytesMin = 64 << 10;

/// Takes long data away; short data has to stay until it was copied. No copy of a view is made: the API's own count of them is not safe when two
/// threads let go of one.
mofka::DataView viewOf(diaspora::DataView& data)
{
    std::vector<mofka::DataView::Segment> segments;
    segments.reserve(data.segments().size());
    for (const auto& segment : data.segments())
        segments.push_back({segment.ptr, segment.size});
    if (data.size() < sharedBytesMin)
        return mofka::DataView(std::move(segments));
    // It is the client that is done with it, on a thread of its own.
    auto kept = std::make_shared<diaspora::DataView>(std::move(data));
    return mofka::DataView(std::move(segments), nullptr, [kept](void*) { interpreter::discard(std::move(*kept)); });
}

std::string textOf(const diaspora::Metadata& metadata)
{
    try {
        return metadata.dump();
    } catch (const nlohmann::json::exception& error) {
        throw diaspora::InvalidMetadata(std::string("Could not write metadata as JSON: ") + error.what());
    }
}

/// A future of the client as one of the API.
template <typename Given, typename Taken>
diaspora::Future<std::optional<Given>> futureOf(mofka::Future<Taken> future)
{
    auto wait = [future](int timeoutMs) -> std::optional<Given> {
        auto settled = translated([&] {
            interpreter::Unlocked unlocked;
            return future.wait(static_cast<std::int64_t>(timeoutMs));
        });
        interpreter::tidy();
        if (!settled)
            return std::nullopt;
        if constexpr (std::is_same_v<Given, Taken>)
            return settled;
        else
            return Given{};
    };
    return {std::move(wait), [future] { return translated([&] { return future.completed(); }); }};
}

} // namespace

Producer::~Producer()
{
    {
        interpreter::Unlocked unlocked;
        m_producer = mofka::Producer();
    }
    interpreter::tidy();
}

diaspora::Future<std::optional<diaspora::EventID>> Producer::push(diaspora::Metadata metadata, diaspora::DataView data,
                                                                  std::optional<std::size_t> partition)
{
    interpreter::tidy();
    const std::string text = textOf(metadata);
    return futureOf<diaspora::EventID>(
        translated([&] { return m_producer.push(mofka::Metadata(text), viewOf(data), partition); }));
}

diaspora::Future<std::optional<diaspora::Flushed>> Producer::flush()
{
    interpreter::tidy();
    return futureOf<diaspora::Flushed>(translated([&] { return m_producer.flush(); }));
}

} // namespace mofka_diaspora
