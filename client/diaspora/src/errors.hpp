// Errors of the client as those of the API.
#ifndef MOFKA_DIASPORA_ERRORS_HPP
#define MOFKA_DIASPORA_ERRORS_HPP

#include <diaspora/Exception.hpp>
#include <diaspora/InvalidMetadata.hpp>
#include <mofka.hpp>
#include <utility>

namespace mofka_diaspora {

/// Calls a function; what the client throws leaves it as exceptions of the API, with the same words.
template <typename F>
decltype(auto) translated(F&& function)
{
    try {
        return std::forward<F>(function)();
    } catch (const mofka::InvalidMetadata& error) {
        throw diaspora::InvalidMetadata(error.what());
    } catch (const mofka::Exception& error) {
        throw diaspora::Exception(error.what());
    }
}

} // namespace mofka_diaspora

#endif
