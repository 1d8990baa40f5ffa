// Python, when it is in the same process: its lock, and memory that belongs to it.
//
// The API's Python module calls the driver with the interpreter's lock held or not, as it comes, and gives it functions and memory that may
// only be touched with it. So: nothing of Python's is called or released on a thread of the client, which would wait for the lock, or be
// ended in the middle when the interpreter ends. The functions are found at run time; nothing is linked to Python.
#ifndef MOFKA_DIASPORA_INTERPRETER_HPP
#define MOFKA_DIASPORA_INTERPRETER_HPP

#include <diaspora/DataView.hpp>

namespace mofka_diaspora::interpreter {

/// Looks whether there is one, and remembers it for what follows: once for each driver, producer and consumer.
bool look();

/// Holds the interpreter's lock, if there is an interpreter. Only on threads of the application.
class Locked {
  public:
    Locked();
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

  private:
    bool m_locked;
    int m_before = 0;
};

/// Lets others have the interpreter's lock meanwhile, if this thread holds it: for whatever may take long.
class Unlocked {
  public:
    Unlocked();
    ~Unlocked();
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

  private:
    void* m_before;
};

/// Lets go of memory of the application's, on any thread: at once if that may be, else when the interpreter says so, or at the next `tidy`.
void discard(diaspora::DataView view);

/// Lets go of what had to wait. Only on threads of the application.
void tidy();

} // namespace mofka_diaspora::interpreter

#endif
