// Which data of an event a consumer wants, and where it goes: descriptors and views of the API and of the client.
#ifndef MOFKA_DIASPORA_PLACEMENT_HPP
#define MOFKA_DIASPORA_PLACEMENT_HPP

#include <diaspora/DataDescriptor.hpp>
#include <diaspora/DataView.hpp>
#include <mofka.hpp>

namespace mofka_diaspora {

/// The API's descriptor of one of the client's: the same place and selection.
diaspora::DataDescriptor descriptorOf(const mofka::DataDescriptor& descriptor);

/// What a selector of the API chose of `whole`. Views of views are relative to each other. Throws when it is of other data.
mofka::DataDescriptor chosen(const mofka::DataDescriptor& whole, const diaspora::DataDescriptor& selected);

/// The data that came with an event, where it is: it stays as long as a copy of the view.
diaspora::DataView inPlace(const mofka::Event& event);

/// Reads what was selected of an event to a view, whose size is that of the selection.
void fetch(const mofka::Event& event, const mofka::DataDescriptor& selected, const diaspora::DataView& into);

/// Copies what came with an event to a view, whose size is that of the selection.
void copy(const mofka::Event& event, const diaspora::DataView& into);

} // namespace mofka_diaspora

#endif
