/*
 * ddbg-record: what a command writes, kept on its way.
 *
 *     ddbg-record DIRECTORY COMMAND [ARG...]
 *
 * It becomes the command: same pid, parent, environment, limits, mask, dispositions, descriptors, but pipes in the place
 * of stdout and stderr. Behind each pipe a process of ours, the pump, passes on what comes, and keeps the last of it:
 *
 *     command --pipe--> pump --> the stdout that we were given        DIRECTORY/stdout
 *     command --pipe--> pump --> the stderr                           DIRECTORY/stderr
 *     command <--pty--> pump --> the terminal                         DIRECTORY/terminal
 *                       keyboard <-- what is typed there
 *
 * A pump is an orphan of a session of its own, so that the command has no child it does not know, and no signal for the
 * command's group ends it. It waits for whoever reads the log, alone: a stderr that nobody reads does not stop
 * stdout. It ends when nobody can write any more.
 *
 * A background process can keep a pipe open for ever. So whoever must know that all the command has written is out asks:
 * a byte into DIRECTORY/NAME.request, and one comes out of DIRECTORY/NAME.done as soon as what was in the pipe is passed
 * on; the end of that file says that the pump is gone. (The init asks, and src/process/record.ts.)
 *
 * Where something fails before the command's start, a line says so, and it runs as without us.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "start.h"

extern char **environ;

/*
 * The file, as src/process/recorded.ts reads it; little-endian, as both of our platforms. A read lands behind what is
 * kept, so that the last KEPT bytes are whole at any moment, also when we are killed.
 */
enum { KEPT = 1 << 20, LANDING = 256 << 10, ROOM = KEPT + LANDING, STAMPS = 16384, HEAD = 4096 };
struct recording {
    char magic[8];
    uint64_t kept, room, stamps;      /* the sizes */
    uint64_t position;                /* bytes that came, in all: the next one goes to position % room */
    uint64_t stamped;                 /* stamps in all */
    uint64_t typed, typed_at_ns;      /* the last INT or QUIT from the keyboard, CLOCK_MONOTONIC */
    char unused[HEAD - 8 * sizeof(uint64_t)];
    struct { uint64_t position, at_ns; } stamp[STAMPS]; /* when the bytes from there on came, CLOCK_REALTIME */
    char bytes[ROOM];
};
_Static_assert(sizeof(struct recording) == HEAD + 16 * STAMPS + ROOM, "recorded.ts counts on it");

/* Bytes and time within which two writes share a stamp: lines of 64 bytes and more have one each, in all that is kept. */
enum { STAMP_BYTES = 64, STAMP_NS = 1000 * 1000 };

/* Of the pipes that the command gets. */
enum { PIPE_BYTES = 256 << 10 };

/* More than a pty holds: after so much, all that was in it at the time of a request is out. */
enum { PTY_HOLDS = 256 << 10 };

static struct stream {
    const char *name;
    int from, to; /* `to`: the command's stdout or stderr, as we were given it */
    int end;      /* the command's: the pipe's, or the pty's */
    bool is_terminal;
} streams[2], *of[3]; /* of[fd] */
static int stream_count;

static uint64_t given_mask;
static struct termios given_mode; /* of the terminal */
static pid_t keyboard_pid;        /* the pump's child; 0: none */
static int life = -1;             /* the pump's end of a pipe: when it closes, the keyboard ends */

static void set_mask(uint64_t mask, uint64_t *before) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, before, sizeof mask);
}

/* ---- the pump ---------------------------------------------------------------------------------------------------- */

static struct recording *recording;
static uint64_t position; /* bytes that came, in all; recording->position is what others see of it */

static uint64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The file cannot be written any more (somebody has truncated it, its disk is broken): what is kept is lost, what comes
 * is passed on still. */
static void forget_file(int number) {
    (void)number; /* SIGBUS */
    mmap(recording, sizeof *recording, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* All of it there before the first byte comes: a disk that is full is an error now, and no SIGBUS later. */
static int reserve(int fd, off_t size) {
    static const char nothing[4096];
    int reason = posix_fallocate(fd, 0, size);
    if (reason != EOPNOTSUPP && reason != EINVAL && reason != ENOSYS) return reason;
    for (off_t at = 0; at < size;) {
        size_t rest = (size_t)(size - at);
        ssize_t once = pwrite(fd, nothing, rest < sizeof nothing ? rest : sizeof nothing, at);
        if (once < 0) return errno;
        at += once;
    }
    return 0;
}

/* In the working directory. Returns 0, or the errno of why not. */
static int make_file(const char *name) {
    unlink(name);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int reason = fchmod(fd, 0600) < 0 ? errno : reserve(fd, sizeof *recording); /* whatever the umask */
    if (reason == 0) {
        recording = mmap(NULL, sizeof *recording, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (recording == MAP_FAILED) reason = errno;
    }
    close(fd);
    if (reason != 0) {
        unlink(name);
        return reason;
    }
    recording->kept = KEPT;
    recording->room = ROOM;
    recording->stamps = STAMPS;
    memcpy(recording->magic, "ddbgrec1", sizeof recording->magic);
    return 0;
}

/* Returns it, open at both ends so that it has no end as long as we live; or -1. */
static int make_fifo(const char *name, const char *suffix) {
    char file[32];
    sprintf(file, "%s.%s", name, suffix);
    unlink(file);
    if (mkfifo(file, 0600) < 0 || chmod(file, 0600) < 0) return -1;
    return open(file, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static void stamp(void) {
    static uint64_t last_ns, last_position, count;
    uint64_t now = now_ns(CLOCK_REALTIME);
    if (now < last_ns) now = last_ns; /* somebody has set the clock back */
    if (count > 0 && position - last_position < STAMP_BYTES && now - last_ns < STAMP_NS) return;
    recording->stamp[count % STAMPS].position = last_position = position;
    recording->stamp[count % STAMPS].at_ns = last_ns = now;
    __atomic_store_n(&recording->stamped, ++count, __ATOMIC_RELEASE);
}

/* False: nobody takes it any more. */
static bool pass_on(int to, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t once = write(to, bytes, size);
        if (once < 0 && errno == EAGAIN) { /* somebody who shares it has made it non-blocking */
            struct pollfd ready = {to, POLLOUT, 0};
            poll(&ready, 1, -1);
        } else if (once < 0 && errno != EINTR) return false;
        else if (once > 0) bytes += once, size -= (size_t)once;
    }
    return true;
}

/* Into the file, which is mapped; it may be lost there in any of these lines (SIGBUS). */
static void keep(const char *bytes, size_t size) {
    size_t at = position % ROOM, front = ROOM - at < size ? ROOM - at : size;
    stamp();
    memcpy(recording->bytes + at, bytes, front);
    memcpy(recording->bytes, bytes + front, size - front);
    position += size;
    __atomic_store_n(&recording->position, position, __ATOMIC_RELEASE);
}

/* Reads once, keeps it, and passes it on. */
static enum { MORE, NOTHING_YET, END, NO_READER } move_on(const struct stream *stream, bool is_read) {
    static char bytes[LANDING]; /* not the file itself: who truncates it would take from the log what has just come */
    ssize_t size = read(stream->from, bytes, sizeof bytes);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return NOTHING_YET;
    if (size <= 0) return END; /* of a pty: EIO */
    keep(bytes, (size_t)size);
    return is_read && !pass_on(stream->to, bytes, (size_t)size) ? NO_READER : MORE;
}

/* A reader that is gone for good; those of a named pipe can come back. */
static bool can_be_left(int fd) {
    enum { PIPEFS = 0x50495045, SOCKFS = 0x534f434b };
    struct statfs found;
    return fstatfs(fd, &found) == 0 && (found.f_type == PIPEFS || found.f_type == SOCKFS || isatty(fd));
}

/* All that the command has shown is out: the terminal becomes what it was. */
static void end_keyboard(const struct stream *stream) {
    if (keyboard_pid == 0) return;
    close(life);
    waitpid(keyboard_pid, NULL, 0);
    keyboard_pid = 0;
    tcsetattr(stream->to, TCSANOW, &given_mode); /* should it have been killed */
}

static _Noreturn void pump(const struct stream *stream, int request, int done) {
    bool is_asked = false, is_watched = can_be_left(stream->to);
    uint64_t mark = 0;
    int last = MORE;
    while (last != END && last != NO_READER) {
        struct pollfd ready[] = {{stream->from, POLLIN, 0}, {request, POLLIN, 0}, {is_watched ? stream->to : -1, 0, 0}};
        if (poll(ready, 3, is_asked ? 0 : -1) < 0) continue;
        if (ready[1].revents != 0) {
            char bytes[64];
            int waiting = PTY_HOLDS;
            while (read(request, bytes, sizeof bytes) > 0);
            if (!stream->is_terminal) ioctl(stream->from, FIONREAD, &waiting);
            is_asked = true;
            mark = position + (uint64_t)waiting;
        } else if (is_asked && (ready[0].revents == 0 || position >= mark)) {
            end_keyboard(stream);
            is_asked = write(done, "", 1) == 0; /* full: nobody reads it */
        } else if (ready[2].revents != 0) last = NO_READER; /* the command's next write fails, as without us */
        else if (ready[0].revents != 0) last = move_on(stream, true);
    }
    fcntl(stream->from, F_SETFL, O_NONBLOCK);
    for (mark = position + ROOM; position < mark && move_on(stream, false) == MORE;); /* it is kept, though nobody has it */
    end_keyboard(stream);
    _exit(0);
}

/* ---- the keyboard ------------------------------------------------------------------------------------------------ */

static void note_typed(int master, const char *keys, ssize_t count) {
    struct termios mode; /* of the command's side */
    if (tcgetattr(master, &mode) < 0 || (mode.c_lflag & ISIG) == 0) return;
    for (ssize_t at = 0; at < count; at++) {
        bool is_interrupt = (cc_t)keys[at] == mode.c_cc[VINTR];
        if (keys[at] == 0 || (!is_interrupt && (cc_t)keys[at] != mode.c_cc[VQUIT])) continue;
        recording->typed_at_ns = now_ns(CLOCK_MONOTONIC);
        recording->typed = is_interrupt ? SIGINT : SIGQUIT;
    }
}

static void pass_size(int terminal, int master) {
    struct winsize size, before;
    if (ioctl(terminal, TIOCGWINSZ, &size) < 0) return;
    if (ioctl(master, TIOCGWINSZ, &before) == 0 && memcmp(&size, &before, sizeof size) == 0) return;
    ioctl(master, TIOCSWINSZ, &size);
}

/* It stays in the group of the init, which has the terminal's foreground: it may read there, and gets WINCH. `slave` is
 * held so that a command which closes all its descriptors for a while does not lose its terminal; `command` is a pidfd. */
static _Noreturn void keyboard(int terminal, int master, int slave, int command, int life_of_pump) {
    uint64_t all = ~0ULL;
    int resized = (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
    struct signalfd_siginfo info;
    char keys[4096];
    ssize_t count = 0, passed = 0;
    pass_size(terminal, master);
    for (;;) {
        bool is_full = passed < count;
        struct pollfd ready[] = {{life_of_pump, POLLIN, 0}, {resized, POLLIN, 0}, {command, POLLIN, 0},
                                 {is_full ? -1 : terminal, POLLIN, 0}, {is_full ? master : -1, POLLOUT, 0}};
        if (poll(ready, 5, -1) < 0) continue;
        if (ready[0].revents != 0) break; /* the pump says so, or is gone */
        if (ready[2].revents != 0) { /* it is dead: the others who have the pty open keep it, not we */
            close(slave);
            close(command);
            command = -1;
        }
        if (ready[1].revents != 0) {
            while (read(resized, &info, sizeof info) == sizeof info);
            pass_size(terminal, master);
        }
        if (ready[3].revents != 0) {
            passed = 0;
            count = read(terminal, keys, sizeof keys);
            if (count <= 0) terminal = -1; /* it went away; the init hears HUP */
            else note_typed(master, keys, count);
        }
        if (passed < count) {
            ssize_t once = write(master, keys + passed, (size_t)(count - passed)); /* non-blocking */
            if (once > 0) passed += once;
            else if (errno != EAGAIN) passed = count;
        }
    }
    if (terminal >= 0) tcsetattr(terminal, TCSANOW, &given_mode);
    _exit(0);
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

static int compare(const void *one, const void *other) {
    return *(const int *)one - *(const int *)other;
}

static void close_all_but(int *kept, size_t count) {
    int next = 0;
    qsort(kept, count, sizeof *kept, compare);
    for (size_t at = 0; at < count; at++) {
        if (kept[at] < 0) continue;
        close_range_of(next, kept[at] - 1);
        next = kept[at] + 1;
    }
    close_range_of(next, INT_MAX);
}

/* From 3 up: the first three may be closed, and are to stay so. */
static int high(int fd) {
    int moved = fd < 0 || fd > 2 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (moved != fd) close(fd);
    return moved;
}

struct report { pid_t pid; int reason; };

static _Noreturn void fail(int reports, int reason) {
    struct report one = {getpid(), reason};
    _exit(write(reports, &one, sizeof one) < 0 ? OWN_FAILURE : NOT_EXECUTABLE);
}

/* Forks it; it reads where the command's own stdin, or else output, is that terminal. Returns 0, or the errno. */
static int start_keyboard(const struct stream *stream, int terminal, int command) {
    int ends[2];
    struct termios raw = given_mode;
    if (pipe2(ends, O_CLOEXEC) < 0) return errno;
    life = high(ends[1]);
    int heard = high(ends[0]);
    cfmakeraw(&raw);
    keyboard_pid = fork();
    if (keyboard_pid == 0) {
        int kept[] = {terminal, stream->from, stream->end, command, heard};
        close_all_but(kept, sizeof kept / sizeof *kept);
        keyboard(terminal, stream->from, stream->end, command, heard);
    }
    if (keyboard_pid < 0) return errno;
    close(heard);
    return tcsetattr(terminal, TCSANOW, &raw) < 0 ? errno : 0;
}

static _Noreturn void become_pump(struct stream *stream, const char *directory, int terminal, int command, int reports) {
    struct sigaction bus = {.sa_handler = forget_file};
    if (chdir(directory) < 0) fail(reports, errno);
    int reason = make_file(stream->name);
    if (reason != 0) fail(reports, reason);
    int request = make_fifo(stream->name, "request"), done = make_fifo(stream->name, "done");
    if (request < 0 || done < 0 || chdir("/") < 0) fail(reports, errno);
    sigaction(SIGBUS, &bus, NULL);
    set_mask(~(1ULL << (SIGBUS - 1)), NULL); /* blocked, one of our own would kill us */
    if (stream->is_terminal && (reason = start_keyboard(stream, terminal, command)) != 0) fail(reports, reason);
    setsid();
    struct report one = {getpid(), 0};
    if (write(reports, &one, sizeof one) < 0) _exit(OWN_FAILURE);
    int kept[] = {stream->from, stream->to, request, done, life};
    close_all_but(kept, sizeof kept / sizeof *kept);
    pump(stream, request, done);
}

/* The signal of a child that has ended; it is blocked. */
static void forget_child(void) {
    uint64_t child = 1ULL << (SIGCHLD - 1);
    struct timespec none = {0};
    syscall(SYS_rt_sigtimedwait, &child, NULL, &none, sizeof child);
}

/* The pumps, through a process in between that ends at once: they are orphans. Without a signal at its end: none is left
 * pending for the command. Returns 0, or the errno of why not; then none of them is left. */
static int start_pumps(const char *directory, int terminal, int command) {
    int reports[2], reason = 0;
    if (pipe2(reports, O_CLOEXEC) < 0) return errno;
    sigset_t pending;
    sigpending(&pending);
    pid_t between = (pid_t)syscall(SYS_clone, 0UL, 0UL, 0UL, 0UL, 0UL);
    bool is_told = between < 0 && errno == EINVAL; /* qemu-user (7.2), as of docker run --platform, knows no such process */
    if (is_told) between = fork();
    for (int at = 0; between == 0 && at < stream_count; at++) {
        pid_t pid = fork();
        if (pid == 0) become_pump(&streams[at], directory, terminal, command, reports[1]);
        if (pid < 0) fail(reports[1], errno);
    }
    if (between == 0) _exit(0);
    if (between < 0) reason = errno;
    else waitpid(between, NULL, __WALL);
    if (is_told && !sigismember(&pending, SIGCHLD)) forget_child();
    close(reports[1]);
    struct report said[2] = {{0}};
    int count = 0;
    while (between > 0 && count < stream_count && read(reports[0], &said[count], sizeof *said) == sizeof *said) {
        if (said[count].reason != 0) reason = said[count].reason;
        count++;
    }
    close(reports[0]);
    if (reason == 0 && count < stream_count) reason = ECHILD;
    for (int at = 0; reason != 0 && at < count; at++)
        if (said[at].reason == 0) kill(said[at].pid, SIGKILL);
    return reason;
}

/* ---- what is recorded -------------------------------------------------------------------------------------------- */

static bool is_same(int one, int other, bool is_device) {
    struct stat here, there;
    if (fstat(one, &here) < 0 || fstat(other, &there) < 0 || S_ISCHR(here.st_mode) != is_device) return false;
    return is_device ? here.st_rdev == there.st_rdev && isatty(other) : here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* As much like the one that was given as a pipe can be: who may open it by its name in /proc, whether it waits. */
static int open_pipe(struct stream *stream) {
    int ends[2];
    struct stat given;
    if (pipe2(ends, O_CLOEXEC) < 0) return errno;
    stream->from = high(ends[0]);
    stream->end = high(ends[1]);
    if (stream->from < 0 || stream->end < 0) return errno;
    fcntl(stream->end, F_SETPIPE_SZ, PIPE_BYTES); /* where the user has too many already, it stays at 64 kB */
    if (fstat(stream->to, &given) == 0 && fchown(stream->end, given.st_uid, given.st_gid) == 0)
        fchmod(stream->end, given.st_mode & 0666);
    int flags = fcntl(stream->to, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) != 0) fcntl(stream->end, F_SETFL, O_WRONLY | O_NONBLOCK);
    return 0;
}

static int open_pty(struct stream *stream) {
    struct winsize size;
    int unlocked = 0;
    stream->from = high(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    if (stream->from < 0 || ioctl(stream->from, TIOCSPTLCK, &unlocked) < 0) return errno;
    char name[32];
    unsigned number;
    stream->end = ioctl(stream->from, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC); /* Linux 4.13 */
    if (stream->end < 0) {
        if (ioctl(stream->from, TIOCGPTN, &number) < 0) return errno;
        sprintf(name, "/dev/pts/%u", number);
        stream->end = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    }
    stream->end = high(stream->end);
    if (stream->end < 0 || tcgetattr(stream->to, &given_mode) < 0) return errno;
    if (ioctl(stream->to, TIOCGWINSZ, &size) == 0) ioctl(stream->from, TIOCSWINSZ, &size);
    return tcsetattr(stream->end, TCSANOW, &given_mode) < 0 ? errno : 0;
}

static struct stream *add_stream(const char *name, int to) {
    streams[stream_count] = (struct stream){name, -1, to, -1, strcmp(name, "terminal") == 0};
    return &streams[stream_count++];
}

/* Which stream takes the place of stdout, of stderr, and on a terminal of stdin. Both in one file is one stream, for
 * there the order of all counts; and so is a terminal. */
static void plan_streams(void) {
    int terminal = isatty(1) ? 1 : isatty(2) ? 2 : -1;
    for (int fd = 1; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        if (fd == terminal) of[fd] = add_stream("terminal", fd);
        else if (terminal >= 0 && is_same(terminal, fd, true)) of[fd] = of[terminal];
        else if (fd == 2 && of[1] != NULL && is_same(1, 2, false)) of[fd] = of[1];
        else if (!isatty(fd)) of[fd] = add_stream(fd == 1 ? "stdout" : "stderr", fd);
    }
    if (terminal >= 0 && is_same(terminal, 0, true)) of[0] = of[terminal];
}

/* Returns 0, or the errno of why the command runs without us. */
static int record(const char *directory) {
    struct stream *terminal = NULL;
    int reason = 0, command = (int)syscall(SYS_pidfd_open, getpid(), 0U); /* Linux 5.3; -1: never */
    plan_streams();
    for (int at = 0; at < stream_count && reason == 0; at++) {
        if (streams[at].is_terminal) terminal = &streams[at];
        reason = streams[at].is_terminal ? open_pty(&streams[at]) : open_pipe(&streams[at]);
    }
    /* not in the background of a shell; and only who leads no group can have a session, which the pty wants */
    if (terminal != NULL && (tcgetpgrp(terminal->to) != getpgrp() || getpgrp() == getpid())) reason = ENOTTY;
    if (reason == 0) reason = start_pumps(directory, of[0] != NULL ? 0 : terminal != NULL ? terminal->to : -1, command);
    if (reason != 0) return reason;
    for (int fd = 0; fd <= 2; fd++)
        if (of[fd] != NULL) dup2(of[fd]->end, fd);
    if (terminal != NULL) {
        setsid();
        ioctl(terminal->end, TIOCSCTTY, 0);
    }
    return 0; /* what is open besides is closed by the exec */
}

int main(int count, char **argv) {
    if (count < 3) FAIL("usage: ddbg-record DIRECTORY COMMAND [ARG ...]");
    set_mask(~0ULL, &given_mask); /* what comes meanwhile meets the command */
    int reason = record(argv[1]);
    if (reason != 0)
        say("cannot record in %s: %s; the command runs unrecorded", argv[1],
            reason == ENOTTY ? "its terminal is not ours to take" : strerror(reason));
    set_mask(given_mask, NULL);
    reason = exec(argv + 2, environ);
    say("cannot start %s: %s", argv[2], strerror(reason));
    return status_of_errno(reason);
}
