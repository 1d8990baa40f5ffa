// Thread pools of the client as those of the API.
#ifndef MOFKA_DIASPORA_POOL_HPP
#define MOFKA_DIASPORA_POOL_HPP

#include <diaspora/ThreadPool.hpp>
#include <memory>

#include "errors.hpp"
#include "interpreter.hpp"

namespace mofka_diaspora {

class Pool final : public diaspora::ThreadPoolInterface {
  public:
    explicit Pool(mofka::ThreadPool pool) : m_pool(std::move(pool))
    {
    }

    /// The end of the last one waits for its tasks, which may need the interpreter.
    ~Pool() override
    {
        interpreter::Unlocked unlocked;
        m_pool = mofka::ThreadPool();
    }

    diaspora::ThreadCount threadCount() const override
    {
        return diaspora::ThreadCount(m_pool.threadCount());
    }

    void pushWork(std::function<void()> task, std::uint64_t priority = std::numeric_limits<std::uint64_t>::max()) override
    {
        translated([&] { m_pool.pushWork(std::move(task), priority); });
    }

    std::size_t size() const override
    {
        return m_pool.size();
    }

    const mofka::ThreadPool& get() const
    {
        return m_pool;
    }

    /// The client's pool of one that a program names; none for none.
    static mofka::ThreadPool of(const std::shared_ptr<diaspora::ThreadPoolInterface>& pool)
    {
        if (!pool)
            return {};
        auto ours = std::dynamic_pointer_cast<Pool>(pool);
        if (!ours)
            throw diaspora::Exception("ThreadPool should be an instance of MofkaThreadPool: one that "
                                      "makeThreadPool() or defaultThreadPool() of a mofka driver gave");
        return ours->get();
    }

  private:
    mofka::ThreadPool m_pool;
};

} // namespace mofka_diaspora

#endif
