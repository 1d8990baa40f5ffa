! Pushes ten events and pulls them again, from Fortran: plain types and blocking calls only, no callbacks.
!
!     gfortran events.f90 -L/where/mofka/is/installed/lib -lmofka_c -o events && ./events mofka.json
module mofka
    use, intrinsic :: iso_c_binding
    implicit none

    integer(c_int32_t), parameter :: MOFKA_OK = 0, MOFKA_TIMEOUT = 1, MOFKA_ERROR_TOPIC_EXISTS = -4
    integer(c_int32_t), parameter :: MOFKA_DATA_ALL = 1

    type, bind(c) :: mofka_slice
        type(c_ptr) :: start
        integer(c_size_t) :: bytes
    end type

    ! As in mofka.h. Zero, or c_null_ptr, is the default everywhere.
    type, bind(c) :: mofka_consumer_options
        integer(c_size_t) :: size
        integer(c_int32_t) :: batch_size = 0, batch_bytes_max = 0
        integer(c_size_t) :: max_num_batches = 0
        type(c_ptr) :: targets = c_null_ptr
        integer(c_size_t) :: target_count = 0
        type(c_ptr) :: filter = c_null_ptr
        integer(c_int32_t) :: data = 0, start = 0
        integer(c_int64_t) :: start_value = 0
        type(c_ptr) :: data_views = c_null_ptr
        type(c_funptr) :: data_selector = c_null_funptr
        type(c_ptr) :: data_selector_context = c_null_ptr
        type(c_funptr) :: data_allocator = c_null_funptr
        type(c_ptr) :: data_allocator_context = c_null_ptr
        type(c_funptr) :: on_assignment = c_null_funptr
        type(c_ptr) :: on_assignment_context = c_null_ptr
        type(c_funptr) :: release = c_null_funptr
        type(c_ptr) :: release_context = c_null_ptr
        integer(c_int64_t) :: data_bytes_max = 0
        type(c_ptr) :: thread_pool = c_null_ptr
    end type

    interface
        integer(c_int32_t) function mofka_driver_connect(group_file, options, driver) bind(c)
            import :: c_int32_t, c_char, c_ptr
            character(kind=c_char), intent(in) :: group_file(*)
            type(c_ptr), value :: options
            type(c_ptr), intent(out) :: driver
        end function

        integer(c_int32_t) function mofka_topic_create(driver, name, options, topic) bind(c)
            import :: c_int32_t, c_char, c_ptr
            type(c_ptr), value :: driver, options
            character(kind=c_char), intent(in) :: name(*)
            type(c_ptr), intent(out) :: topic
        end function

        integer(c_int32_t) function mofka_topic_open(driver, name, topic) bind(c)
            import :: c_int32_t, c_char, c_ptr
            type(c_ptr), value :: driver
            character(kind=c_char), intent(in) :: name(*)
            type(c_ptr), intent(out) :: topic
        end function

        integer(c_int32_t) function mofka_producer_create(topic, options, producer) bind(c)
            import :: c_int32_t, c_ptr
            type(c_ptr), value :: topic, options
            type(c_ptr), intent(out) :: producer
        end function

        ! The last argument is c_null_ptr: mofka_producer_flush waits for all events.
        integer(c_int32_t) function mofka_producer_push(producer, metadata, metadata_bytes, segments, segment_count, &
                                                        partition, future) bind(c)
            import :: c_int32_t, c_int64_t, c_size_t, c_char, c_ptr, mofka_slice
            type(c_ptr), value :: producer, future
            character(kind=c_char), intent(in) :: metadata(*)
            integer(c_size_t), value :: metadata_bytes, segment_count
            type(mofka_slice), intent(in) :: segments(*)
            integer(c_int64_t), value :: partition
        end function

        integer(c_int32_t) function mofka_producer_flush(producer, timeout_ms) bind(c)
            import :: c_int32_t, c_int64_t, c_ptr
            type(c_ptr), value :: producer
            integer(c_int64_t), value :: timeout_ms
        end function

        integer(c_int32_t) function mofka_consumer_create(topic, name, options, consumer) bind(c)
            import :: c_int32_t, c_char, c_ptr, mofka_consumer_options
            type(c_ptr), value :: topic
            character(kind=c_char), intent(in) :: name(*)
            type(mofka_consumer_options), intent(in) :: options
            type(c_ptr), intent(out) :: consumer
        end function

        integer(c_int32_t) function mofka_consumer_next(consumer, timeout_ms, event) bind(c)
            import :: c_int32_t, c_int64_t, c_ptr
            type(c_ptr), value :: consumer
            integer(c_int64_t), value :: timeout_ms
            type(c_ptr), intent(out) :: event
        end function

        integer(c_int64_t) function mofka_event_id(event) bind(c)
            import :: c_int64_t, c_ptr
            type(c_ptr), value :: event
        end function

        type(mofka_slice) function mofka_event_metadata(event) bind(c)
            import :: c_ptr, mofka_slice
            type(c_ptr), value :: event
        end function

        integer(c_size_t) function mofka_event_data_copy(event, offset, into, room_bytes) bind(c)
            import :: c_size_t, c_int64_t, c_ptr
            type(c_ptr), value :: event, into
            integer(c_int64_t), value :: offset
            integer(c_size_t), value :: room_bytes
        end function

        integer(c_int32_t) function mofka_event_acknowledge(event) bind(c)
            import :: c_int32_t, c_ptr
            type(c_ptr), value :: event
        end function

        subroutine mofka_event_free(event) bind(c)
            import :: c_ptr
            type(c_ptr), value :: event
        end subroutine

        subroutine mofka_consumer_free(consumer) bind(c)
            import :: c_ptr
            type(c_ptr), value :: consumer
        end subroutine

        subroutine mofka_producer_free(producer) bind(c)
            import :: c_ptr
            type(c_ptr), value :: producer
        end subroutine

        subroutine mofka_topic_free(topic) bind(c)
            import :: c_ptr
            type(c_ptr), value :: topic
        end subroutine

        subroutine mofka_driver_free(driver) bind(c)
            import :: c_ptr
            type(c_ptr), value :: driver
        end subroutine

        type(c_ptr) function mofka_last_error_message() bind(c)
            import :: c_ptr
        end function

        integer(c_size_t) function strlen(text) bind(c)
            import :: c_size_t, c_ptr
            type(c_ptr), value :: text
        end function
    end interface

contains

    ! The bytes that C points to, as text.
    function text_of(slice) result(text)
        type(mofka_slice), intent(in) :: slice
        character(len=:), allocatable :: text
        character(kind=c_char), pointer :: bytes(:)
        integer(c_size_t) :: i

        allocate (character(len=slice%bytes) :: text)
        if (slice%bytes == 0) return
        call c_f_pointer(slice%start, bytes, [slice%bytes])
        do i = 1, slice%bytes
            text(i:i) = bytes(i)
        end do
    end function

    ! Ends the program when something failed.
    subroutine check(status, what)
        integer(c_int32_t), intent(in) :: status
        character(len=*), intent(in) :: what
        type(mofka_slice) :: message

        if (status == MOFKA_OK) return
        message%start = mofka_last_error_message()
        message%bytes = strlen(message%start)
        print '(3a)', what, ': ', text_of(message)
        stop 1
    end subroutine
end module

program events
    use mofka
    implicit none

    type(c_ptr) :: driver, topic, producer, consumer, event
    type(mofka_consumer_options) :: options
    type(mofka_slice) :: segment
    integer(c_int32_t) :: status
    integer(c_size_t) :: bytes
    integer :: i
    character(len=200) :: group_file
    character(len=:), allocatable :: metadata
    character(len=32) :: number
    real(c_double), target :: values(3), back(3)

    group_file = 'mofka.json'
    if (command_argument_count() > 0) call get_command_argument(1, group_file)
    call check(mofka_driver_connect(trim(group_file)//c_null_char, c_null_ptr, driver), 'connect')
    status = mofka_topic_create(driver, 'fortran'//c_null_char, c_null_ptr, topic)
    if (status == MOFKA_ERROR_TOPIC_EXISTS) status = mofka_topic_open(driver, 'fortran'//c_null_char, topic)
    call check(status, 'create or open the topic')

    call check(mofka_producer_create(topic, c_null_ptr, producer), 'make a producer')
    do i = 1, 10
        write (number, '(i0)') i
        metadata = '{"step": '//trim(number)//'}'
        values = [1.0d0*i, 2.0d0*i, 3.0d0*i]
        segment = mofka_slice(c_loc(values), c_sizeof(values))
        call check(mofka_producer_push(producer, metadata, len(metadata, c_size_t), [segment], 1_c_size_t, &
                                       -1_c_int64_t, c_null_ptr), 'push')
    end do
    call check(mofka_producer_flush(producer, -1_c_int64_t), 'flush')

    options%size = c_sizeof(options)
    options%data = MOFKA_DATA_ALL
    call check(mofka_consumer_create(topic, 'reader'//c_null_char, options, consumer), 'make a consumer')
    do i = 1, 10
        call check(mofka_consumer_next(consumer, -1_c_int64_t, event), 'pull')
        bytes = mofka_event_data_copy(event, 0_c_int64_t, c_loc(back), c_sizeof(back))
        print '(a,i0,3a,3f6.1)', 'event ', mofka_event_id(event), ': ', text_of(mofka_event_metadata(event)), ' ', back
        if (i == 10) call check(mofka_event_acknowledge(event), 'acknowledge')
        call mofka_event_free(event)
    end do

    call mofka_consumer_free(consumer)
    call mofka_producer_free(producer)
    call mofka_topic_free(topic)
    call mofka_driver_free(driver)
end program
