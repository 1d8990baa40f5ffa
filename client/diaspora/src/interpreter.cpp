#include "interpreter.hpp"

#include <atomic>
#include <dlfcn.h>
#include <mutex>
#include <utility>
#include <vector>

namespace mofka_diaspora::interpreter {

namespace {

/// What is needed of the stable interface of CPython.
struct Functions {
    int (*isInitialized)() = nullptr;
    int (*check)() = nullptr;
    int (*ensure)() = nullptr;
    void (*release)(int) = nullptr;
    void* (*save)() = nullptr;
    void (*restore)(void*) = nullptr;
    int (*later)(int (*)(void*), void*) = nullptr;
};

template <typename F>
bool find(F& function, const char* name)
{
    function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    return function != nullptr;
}

/// There once an interpreter was seen, and then for ever.
std::atomic<const Functions*> s_functions{nullptr};

const Functions* working()
{
    const Functions* functions = s_functions.load(std::memory_order_acquire);
    return functions && functions->isInitialized() ? functions : nullptr;
}

/// What waits to be let go of. Never destroyed: threads of the client may be there to the end.
struct Waiting {
    std::mutex mutex;
    std::vector<diaspora::DataView> views;
    bool isTold = false;
    std::atomic<bool> isEmpty{true};
};

Waiting& waiting()
{
    static auto* const waiting = new Waiting;
    return *waiting;
}

/// With the interpreter's lock held.
void releaseAll()
{
    std::vector<diaspora::DataView> views;
    {
        std::lock_guard lock(waiting().mutex);
        views.swap(waiting().views);
        waiting().isTold = false;
        waiting().isEmpty = true;
    }
}

int releaseLater(void*)
{
    releaseAll();
    return 0;
}

} // namespace

bool look()
{
    if (s_functions.load(std::memory_order_acquire))
        return working() != nullptr;
    Functions found;
    if (!find(found.isInitialized, "Py_IsInitialized") || !find(found.check, "PyGILState_Check") ||
        !find(found.ensure, "PyGILState_Ensure") || !find(found.release, "PyGILState_Release") ||
        !find(found.save, "PyEval_SaveThread") || !find(found.restore, "PyEval_RestoreThread") ||
        !find(found.later, "Py_AddPendingCall") || !found.isInitialized())
        return false;
    auto functions = std::make_unique<Functions>(found);
    const Functions* none = nullptr;
    if (s_functions.compare_exchange_strong(none, functions.get()))
        functions.release();
    return true;
}

Locked::Locked() : m_locked(working() != nullptr)
{
    if (m_locked)
        m_before = s_functions.load()->ensure();
}

Locked::~Locked()
{
    if (m_locked)
        s_functions.load()->release(m_before);
}

Unlocked::Unlocked() : m_before(nullptr)
{
    if (const Functions* functions = working(); functions && functions->check())
        m_before = functions->save();
}

Unlocked::~Unlocked()
{
    if (m_before)
        s_functions.load()->restore(m_before);
}

void discard(diaspora::DataView view)
{
    if (!s_functions.load(std::memory_order_acquire))
        return;
    const Functions* functions = working();
    if (functions && functions->check())
        return;
    // After the interpreter's end nobody may touch what was its own; the process ends, too.
    bool tell = false;
    {
        std::lock_guard lock(waiting().mutex);
        waiting().views.push_back(std::move(view));
        waiting().isEmpty = false;
        tell = functions && !std::exchange(waiting().isTold, true);
    }
    // It has room for a few of these, and forgets about more.
    if (tell && functions->later(releaseLater, nullptr) != 0) {
        std::lock_guard lock(waiting().mutex);
        waiting().isTold = false;
    }
}

void tidy()
{
    if (waiting().isEmpty.load(std::memory_order_relaxed) || !working())
        return;
    Locked locked;
    releaseAll();
}

} // namespace mofka_diaspora::interpreter
