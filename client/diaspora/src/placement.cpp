#include "placement.hpp"

#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "errors.hpp"

namespace mofka_diaspora {

diaspora::DataDescriptor descriptorOf(const mofka::DataDescriptor& descriptor)
{
    if (descriptor.size() == 0)
        return {};
    diaspora::DataDescriptor whole(descriptor.location(), descriptor.baseSize());
    if (descriptor.size() == descriptor.baseSize())
        return whole;
    std::vector<diaspora::DataDescriptor::Segment> segments;
    for (const auto& range : descriptor.flatten())
        segments.push_back({range.offset, range.bytes});
    return whole.makeUnstructuredView(segments);
}

mofka::DataDescriptor chosen(const mofka::DataDescriptor& whole, const diaspora::DataDescriptor& selected)
{
    using diaspora::DataDescriptor;
    if (selected.size() == 0)
        return {};
    if (selected.location() != whole.location())
        throw diaspora::Exception("the data selector returned a descriptor of other data than that of the event");
    mofka::DataDescriptor view = whole;
    for (const auto& selection : selected.selections())
        std::visit(
            [&](const auto& one) {
                using T = std::decay_t<decltype(one)>;
                if constexpr (std::is_same_v<T, DataDescriptor::Strided>) {
                    view = view.makeStridedView(one.offset, one.numblocks, one.blocksize, one.gapsize);
                } else if constexpr (std::is_same_v<T, DataDescriptor::Unstructured>) {
                    std::vector<mofka::DataDescriptor::Segment> segments;
                    for (const auto& segment : one.segments)
                        segments.push_back({segment.offset, segment.size});
                    view = view.makeUnstructuredView(segments);
                } else {
                    view = view.makeSubView(one.offset, one.size);
                }
            },
            selection);
    if (view.size() != selected.size())
        throw diaspora::Exception("the data selector returned a descriptor of " + std::to_string(selected.size()) +
                                  " bytes whose selections are " + std::to_string(view.size()));
    return view;
}

diaspora::DataView inPlace(const mofka::Event& event)
{
    std::vector<diaspora::DataView::Segment> segments;
    for (std::size_t i = 0; i < event.dataSegmentCount(); ++i) {
        const mofka::ByteView segment = event.dataSegment(i);
        segments.push_back({const_cast<unsigned char*>(segment.data()), segment.size()});
    }
    return diaspora::DataView(std::move(segments), nullptr, [event](void*) {});
}

void fetch(const mofka::Event& event, const mofka::DataDescriptor& selected, const diaspora::DataView& into)
{
    const mofka::DataReader reader = event.openData(selected);
    for (const auto& segment : into.segments()) {
        const std::size_t bytes = reader.read(segment.ptr, segment.size);
        if (bytes != segment.size)
            throw diaspora::Exception("of the data of event " + std::to_string(event.id()) + ", " + std::to_string(bytes) +
                                      " bytes came in place of " + std::to_string(segment.size));
    }
}

void copy(const mofka::Event& event, const diaspora::DataView& into)
{
    const mofka::DataView data = event.data();
    std::size_t offset = 0;
    for (const auto& segment : into.segments())
        offset += data.read(segment.ptr, segment.size, offset);
}

} // namespace mofka_diaspora
