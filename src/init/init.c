/*
 * ddbg-init: the native PID 1 of ddbg-entry, for what Node cannot do (leave no trace, reap orphans, hand over a
 * terminal, hand on limits and descriptors as they came, wait without 40 MB).
 *
 *     off        one execve: the command takes our place, nothing of ours remains
 *     --init     stays in front of it: starts it, passes signals on, reaps, ends with its status
 *     on         the same, but node (cli.cjs) is asked first and says what to do; the command outlives node
 *     parked     waits alone, for whoever lets the container go
 *     --stand    no init at all: `ddbg shell` starts what it runs through us, where the command stood
 *     ddbg       called so, as in the carrier image, whose node no PATH finds: node becomes the tool in our place
 *
 *     PLANNING --start--> RUNNING --end--> [GRACE] --> JUDGING --park--> PARKED --USR1--> PLANNING
 *        '------------------------------- exit, become ------------------'
 *
 * It decides nothing beyond "may one of our words be there": the words are read in src/parse.ts. Node and we talk over
 * a socket pair. From node, records that end with NUL:
 *
 *     hold never|fault|always LIMIT_MS   what to do after the end of the command if node is gone by then
 *     keep N, arg WORD...                the command: these words, then the last N of those we were given
 *     unset NAME, set NAME=VALUE         its environment: how it differs from the one we were given
 *     recorder DIRECTORY                 the command starts with ddbg-record, record.c, which keeps what it writes there
 *     start                              start the command
 *     become                             none of our words after all: as if off
 *     released TEXT, expired TEXT        lines to say at the end of a park, SIGNAL in the first stands for the name
 *     park STATUS LIMIT_MS               hold the container; node is done. The limit counts while nobody is attached
 *     exit STATUS                        end; node is done
 *
 * To node, lines:
 *
 *     started PID, failed ERRNO          the command is there, or not
 *     stopped SIGNAL                     a stop came first, it is not started
 *     stop SIGNAL, signal SIGNAL         passed on: a stop, or any other
 *     typed SIGNAL                       the terminal has sent it to the command
 *     ended exited|killed NUMBER STATUS core|-
 *                                        STATUS: what that makes of the container, --exit-map applied; core: it was dumped
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "start.h"

enum { BY_SIGNAL = 128 };
enum { MOST_SIGNALS = 64 };
enum { STARTS_MS = 30 * 1000 }; /* how long node may take to its first word: without room for its threads it never says one */
enum { LAST_WORD_MS = 1000, GIVES_UP_MS = 5000 }; /* how long a stop waits for node: to speak, to undo a download */

extern char **environ;

static char **arguments; /* all of them, for node */
static char **given_command;
static struct { char **command, **environment; } plan; /* what was given, until node changes it */
static struct { int kept, count; char **words; } change; /* these words, then the last `kept` of its own */

/* flags */
static bool stays, to_all;
static long grace_ms;
static int death_signal;
static unsigned char sent_as[MOST_SIGNALS + 1]; /* 0: not at all */
static bool is_mapped[MOST_SIGNALS + 1];
static unsigned char status_as[256];

static enum { PLANNING, RUNNING, GRACE, JUDGING, PARKED } phase;
static enum { NEVER, ON_FAULT, ALWAYS } hold; /* if node is gone */
static long hold_limit_ms;
static bool is_doubtful;            /* perhaps none of our words is there: whatever becomes of node, the command is started */
static pid_t command_pid, node_pid, ear_pid; /* 0: none */
static int link_fd = -1, signal_fd = -1;
static int end;             /* of the command, as waitpid(2) has it */
static int stop;            /* the first stop that was asked for; 0: none */
static int64_t passing_ms;  /* when the last HUP went out or Ctrl-C was typed: a stop, if the end follows soon (supervise.ts) */
static bool is_on_pty;      /* the recorder's, in a session of its own, which a leader of a group could not have */
static int terminal = -1;   /* a descriptor of the one whose foreground is ours */
static int64_t deadline_ms; /* of the next look at a park with a limit, of the grace, or of node after a stop; 0: none */
static int parked_status;
static bool was_parked;     /* and is to be run again */
static bool is_again;       /* USR1 came between the end and the park */
static char *released, *expired;
static char *recorder;      /* its directory; NULL: the command's output is its own */

static bool has_spoken;     /* node, since it was started */
static size_t received;     /* bytes of records from node */

static uint64_t given_mask;
static struct sigaction given_child_action;

/* ---- flags: one word each, so that they can be stepped over ------------------------------------------------------ */

static const char *const SIGNAL_NAMES[] = {
    [1] = "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
    "IO", "PWR", "SYS",
};
enum { FIRST_REALTIME = 34 }; /* as glibc and kill(1) count: two of the kernel's 32 are libc's own */

/* The number in front of a sign, or -1; moves on behind the sign. */
static int read_number(const char **text, int most) {
    char *rest;
    if (!isdigit((unsigned char)**text)) return -1;
    unsigned long number = strtoul(*text, &rest, 10);
    *text = rest;
    return number > (unsigned long)most ? -1 : (int)number;
}

/* TERM, SIGTERM, 15, RTMIN+3, RTMAX-1; -1 for anything else. Moves on behind it. */
static int read_signal(const char **text) {
    if (isdigit((unsigned char)**text)) return read_number(text, MOST_SIGNALS);
    if (strncasecmp(*text, "SIG", 3) == 0) *text += 3;
    bool from_first = strncasecmp(*text, "RTMIN", 5) == 0;
    if (from_first || strncasecmp(*text, "RTMAX", 5) == 0) {
        int base = from_first ? FIRST_REALTIME : MOST_SIGNALS, distance = 0;
        *text += 5;
        if (**text == (from_first ? '+' : '-')) {
            *text += 1;
            distance = read_number(text, MOST_SIGNALS - FIRST_REALTIME);
            if (distance < 0) return -1;
        }
        return from_first ? base + distance : base - distance;
    }
    size_t length = strspn(*text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz12");
    for (int number = 1; number < (int)(sizeof SIGNAL_NAMES / sizeof *SIGNAL_NAMES); number++) {
        if (strlen(SIGNAL_NAMES[number]) != length || strncasecmp(SIGNAL_NAMES[number], *text, length) != 0) continue;
        *text += length;
        return number;
    }
    return -1;
}

static bool read_init(const char *value) {
    stays = true;
    return value == NULL;
}

static bool read_group(const char *value) {
    stays = to_all = true;
    return value == NULL;
}

static bool read_grace(const char *value) {
    stays = true;
    int count = value == NULL ? -1 : read_number(&value, 9999999);
    if (count <= 0 || value[0] == '\0' || value[1] != '\0') return false;
    const char *units = "smh", *unit = strchr(units, *value);
    static const long UNIT_MS[] = {1000, 60 * 1000, 3600 * 1000};
    if (unit == NULL || count > 576 * 3600 * 1000L / UNIT_MS[unit - units]) return false;
    grace_ms = count * UNIT_MS[unit - units];
    return true;
}

static bool read_death_signal(const char *value) {
    death_signal = value == NULL ? -1 : read_signal(&value);
    return death_signal > 0 && *value == '\0';
}

static int read_status(const char **text) {
    return read_number(text, 255);
}

/* FROM:TO[,FROM:TO...] */
static bool read_map(const char *value, int (*read_one)(const char **), unsigned char *map, bool *is_from) {
    stays = true;
    while (value != NULL) {
        int from = read_one(&value);
        if (from < 0 || *value++ != ':') return false;
        int to = read_one(&value);
        if (to < 0 || (*value != ',' && *value != '\0')) return false;
        map[from] = (unsigned char)to;
        is_from[from] = true;
        if (*value++ == '\0') return true;
    }
    return false;
}

static bool read_signal_map(const char *value) {
    bool is_read = read_map(value, read_signal, sent_as, is_mapped);
    return is_read && !is_mapped[0] && !is_mapped[SIGKILL] && !is_mapped[SIGSTOP] && !is_mapped[SIGCHLD];
}

static bool read_status_map(const char *value) {
    bool is_from[256];
    return read_map(value, read_status, status_as, is_from);
}

static bool has_value(const char *value) {
    return value != NULL && *value != '\0';
}

#define NO_VALUE "has no value: write it as one word, --name=VALUE"

/* The first six are ours; the others are src/plan.ts's, which also has these names: a test holds the two together. */
static const struct { const char *name; bool (*read)(const char *); const char *form; } FLAGS[] = {
    {"init", read_init, "takes no value"},
    {"group", read_group, "takes no value"},
    {"grace", read_grace, "must be a duration such as 10s, 2m or 1h, at most 576h"},
    {"pdeathsig", read_death_signal, "must be a signal such as TERM or 15"},
    {"stop-signal-map", read_signal_map, "must be FROM:TO[,FROM:TO...], signals such as TERM:QUIT; a TO of 0 drops it"},
    {"exit-map", read_status_map, "must be FROM:TO[,FROM:TO...], statuses from 0 to 255 such as 143:0"},
    {"allow", has_value, NO_VALUE}, {"root", has_value, NO_VALUE}, {"state-dir", has_value, NO_VALUE},
    {"stall-timeout", has_value, NO_VALUE}, {"fetch-timeout", has_value, NO_VALUE},
    {"limit", has_value, NO_VALUE},
};

/* Reads ours, and finds the command. Returns true for a question (--help and the like), which node answers. */
static bool read_flags(char **word) {
    for (int number = 0; number <= MOST_SIGNALS; number++) sent_as[number] = (unsigned char)number;
    for (int status = 0; status < 256; status++) status_as[status] = (unsigned char)status;
    bool is_question = false;
    for (; *word != NULL && (*word)[0] == '-' && (*word)[1] != '\0'; word++) {
        if (strcmp(*word, "--") == 0) {
            word++;
            break;
        }
        const char *name = *word + 2;
        size_t length = strcspn(name, "="), at = 0, count = sizeof FLAGS / sizeof *FLAGS;
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        if (strcmp(*word, "-h") == 0 || strcmp(*word, "--help") == 0 || strcmp(*word, "--version") == 0 ||
            strncmp(*word, "--install", 9) == 0) {
            is_question = true;
            continue;
        }
        while (at < count && !((*word)[1] == '-' && strlen(FLAGS[at].name) == length &&
                               strncmp(FLAGS[at].name, name, length) == 0))
            at++;
        if (at == count)
            FAIL("cannot run: '%s' is no flag of ours; put -- in front of a command that starts with a dash", *word);
        if (!FLAGS[at].read(value)) FAIL("cannot run: %s: it %s", *word, FLAGS[at].form);
    }
    given_command = word;
    return is_question;
}

/* ---- the gate ---------------------------------------------------------------------------------------------------- */

/* PERHAPS: begins like one of ours, and may be a slip of the pen, or not even that. */
static enum { NOTHING, PERHAPS, SURELY } look_for_words(void) {
    static const char *const WORDS[] = {"verbose", "stayalive", "fstree", "record"};
    static const int TELLING[] = {4, 4, 3, 6}; /* letters after which no other word is likely; 6: all, for `recorder:*` is */
    const char *strict = getenv("DDBG"), *text = getenv("DEBUG");
    if (strict != NULL) {
        if (*strict != '\0') return SURELY;
        unsetenv("DDBG"); /* empty: we are switched off */
        return NOTHING;
    }
    int found = NOTHING;
    for (const char *at = text; at != NULL && *at != '\0'; at++) {
        if (at > text && isgraph((unsigned char)at[-1]) && strchr(",;'\"", at[-1]) == NULL) continue; /* in a word */
        for (int word = 0; word < 4; word++) {
            const char *behind = strncmp(at, WORDS[word], strlen(WORDS[word])) == 0 ? at + strlen(WORDS[word]) : "x";
            while (*behind != '=' && *behind != '\0' && !isgraph((unsigned char)*behind)) behind++;
            if (*behind == '\0' || *behind == ',' || *behind == '=') found = SURELY;
            else if (found == NOTHING && strncasecmp(at, WORDS[word], (size_t)TELLING[word]) == 0 &&
                     (TELLING[word] < 6 || strchr(",;'\"= \t\n", at[6]) != NULL)) found = PERHAPS;
        }
    }
    return found;
}

/* ---- exec ------------------------------------------------------------------------------------------------------- */

/* Signals as we were given them. All else (limits, directory, umask, descriptors) we have never changed. */
static void restore_signals(void) {
    sigaction(SIGCHLD, &given_child_action, NULL);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &given_mask, NULL, sizeof given_mask);
}

static _Noreturn void become_command(void) {
    if (death_signal > 0) prctl(PR_SET_PDEATHSIG, death_signal);
    int reason = exec(plan.command, plan.environment);
    say("cannot start %s: %s", plan.command[0], strerror(reason));
    exit(status_of_errno(reason));
}

/* Everything from 3 up but these two. */
static void close_all_but(int one, int other) {
    int low = one < other ? one : other, high = one < other ? other : one;
    close_range_of(3, low - 1);
    close_range_of(low < 3 ? 3 : low + 1, high - 1);
    close_range_of(high < 3 ? 3 : high + 1, INT_MAX);
}

/* Forks; the child execs in `run`, which returns why it could not. Where there is a `before`, it is called here with the
 * pid, before that. Returns the pid, or -errno of the fork or the exec. */
static pid_t start(int (*run)(int failure), void (*before)(pid_t)) {
    int failure[2], go[2], reason = 0;
    if (pipe2(failure, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0) return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        if (before != NULL && read(go[0], &reason, sizeof reason) < 0) _exit(OWN_FAILURE); /* until it is closed */
        reason = run(failure[1]);
        _exit(write(failure[1], &reason, sizeof reason) < 0 ? OWN_FAILURE : NOT_EXECUTABLE);
    }
    if (pid < 0) reason = errno;
    else if (before != NULL) before(pid);
    close(go[0]);
    close(go[1]);
    close(failure[1]);
    if (pid > 0 && read(failure[0], &reason, sizeof reason) > 0) waitpid(pid, NULL, 0);
    close(failure[0]);
    return reason == 0 ? pid : -reason;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

/* Replaces or takes away a variable, in its place: `text` is NAME=VALUE or NAME. */
static void change_environment(const char *text) {
    char **given = plan.environment;
    size_t name = strcspn(text, "="), count = count_of(given), kept = 0;
    bool is_set = text[name] == '\0'; /* nothing to put in */
    plan.environment = must(malloc((count + 2) * sizeof *given));
    for (size_t at = 0; at < count; at++) {
        bool is_it = strncmp(given[at], text, name) == 0 && given[at][name] == '=';
        if (is_it && is_set) continue;
        plan.environment[kept++] = is_it ? must(strdup(text)) : given[at];
        if (is_it) is_set = true;
    }
    if (!is_set) plan.environment[kept++] = must(strdup(text));
    plan.environment[kept] = NULL;
}

static void change_command(void) {
    int count = (int)count_of(given_command), kept = change.kept < count ? change.kept : count;
    plan.command = must(malloc(((size_t)change.count + (size_t)kept + 1) * sizeof *plan.command));
    if (change.count > 0) memcpy(plan.command, change.words, (size_t)change.count * sizeof *plan.command);
    memcpy(plan.command + change.count, given_command + count - kept, ((size_t)kept + 1) * sizeof *plan.command);
}

/* A descriptor of our terminal, if this group has its foreground; -1: if any group has. -1 where there is none. */
static int terminal_of(pid_t group) {
    for (int fd = 0; fd <= 2; fd++) {
        pid_t foreground = tcgetpgrp(fd);
        if (foreground > 0 && (group == -1 || foreground == group)) return fd;
    }
    return -1;
}

static void give_terminal(pid_t group) {
    if (terminal >= 0) tcsetpgrp(terminal, group); /* SIGTTOU is blocked */
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_stopped(void) {
    return stop != 0 || (passing_ms != 0 && now_ms() - passing_ms < 10 * 1000);
}

/*
 * The ear: Ctrl-C goes to the process group in the foreground, the command's, and to nobody else; yet we must know that
 * a stop was asked for. So one of ours sits in that group from before the first instruction, and ends when it hears one,
 * with its number.
 */
static void start_ear(pid_t group) {
    struct signalfd_siginfo heard;
    setpgid(group, group); /* the command does so too: whoever comes first */
    ear_pid = fork();
    if (ear_pid > 0) setpgid(ear_pid, group);
    if (ear_pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_all_but(signal_fd, -1);
    while (read(signal_fd, &heard, sizeof heard) == sizeof heard) {
        bool is_typed = heard.ssi_code == SI_KERNEL && (heard.ssi_signo == SIGINT || heard.ssi_signo == SIGQUIT);
        if (is_typed || heard.ssi_signo == SIGTERM) _exit((int)heard.ssi_signo);
    }
    _exit(OWN_FAILURE);
}

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...);

static void ear_ended(int status) {
    ear_pid = 0;
    int number = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    if (number == SIGINT || number == SIGQUIT) {
        passing_ms = now_ms();
        tell("typed %d\n", number);
    }
    if (command_pid > 0) start_ear(command_pid); /* for the next one */
}

/* Its TERM comes behind an INT that it has not read yet: signals are read in the order of their numbers. */
static void stop_ear(void) {
    int status;
    if (ear_pid <= 0) return;
    kill(ear_pid, SIGTERM);
    kill(ear_pid, SIGCONT); /* a STOP for the command's group has stopped it too */
    if (waitpid(ear_pid, &status, 0) == ear_pid) ear_ended(status);
}

/* Where the shell has put us into the foreground (fg, and not bg): what is ours there is the command's. */
static void take_and_give_terminal(void) {
    int fd = terminal_of(getpgrp());
    if (fd < 0) return;
    terminal = fd;
    give_terminal(command_pid);
}

static int run_command(int failure) {
    (void)failure;
    if (!is_on_pty) setpgid(0, 0);
    give_terminal(getpid()); /* here and not in the parent: by the first instruction it is done */
    if (death_signal > 0) prctl(PR_SET_PDEATHSIG, death_signal); /* KILL cannot be passed on */
    restore_signals();
    return exec(plan.command, plan.environment);
}

/* Returns 0, or the errno of why not. */
static int start_command(void) {
    if (getpid() != 1) prctl(PR_SET_CHILD_SUBREAPER, 1);
    terminal = terminal_of(getpgrp()); /* only where it is ours to give: not from the background of a shell */
    is_on_pty = recorder != NULL && terminal >= 0 && (isatty(1) || isatty(2));
    if (is_on_pty) terminal = -1;
    pid_t pid = start(run_command, terminal >= 0 && (link_fd >= 0 || grace_ms > 0) ? start_ear : NULL);
    if (pid < 0) {
        stop_ear();
        give_terminal(getpgrp());
        return -pid;
    }
    command_pid = pid;
    phase = RUNNING;
    close_all_but(link_fd, signal_fd); /* whoever reads from an inherited pipe waits for its end */
    return 0;
}

/* ---- node -------------------------------------------------------------------------------------------------------- */

static char *node_file, *bundle_file;

/* In the carrier image: its node must not need the libc of the image that it has come to, so a loader of its own starts
 * it, with the libraries beside it. NULL: node is one like others. */
static char *own_loader;

static bool is_program(const char *file) {
    struct stat found;
    return access(file, X_OK) == 0 && stat(file, &found) == 0 && S_ISREG(found.st_mode);
}

/* DDBG_NODE; NULL where it is not set, or empty. */
static const char *named_node(void) {
    const char *named = getenv("DDBG_NODE");
    return named != NULL && *named != '\0' ? named : NULL;
}

/* That one, or the one in PATH. NULL: there is none. */
static char *find_node(void) {
    const char *named = named_node(), *path = getenv("PATH");
    if (named != NULL) return is_program(named) ? must(strdup(named)) : NULL;
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        char *file = join(path, length, "node");
        if (is_program(file)) return file;
        free(file);
        path += length + (path[length] == ':');
    }
    return NULL;
}

static const char *package; /* its folder; '' for / */

static char *in_package(const char *name) {
    char *file;
    return asprintf(&file, "%s/%s", package, name) < 0 ? must(NULL) : file;
}

/* We are PACKAGE/dist/init/PLATFORM/ddbg-init. Returns NULL, or what is missing. */
static const char *find_programs(const char *bundle) {
    char *folder = must(malloc(PATH_MAX)); /* on the stack, or static, it would take a page more for good (measured) */
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (length < 0) return "/proc is not mounted, and the rest of the package is found by it";
    folder[length] = '\0';
    for (int level = 0; level < 4; level++) {
        char *last = strrchr(folder, '/');
        if (last != NULL) *last = '\0';
    }
    package = must(realloc(folder, strlen(folder) + 1));
    bundle_file = in_package(bundle);
    if (access(bundle_file, R_OK) != 0) return "the rest of the package is not there: link to its init, do not copy it";
    char *loader = in_package("lib/ld.so");
    if (named_node() == NULL && is_program(loader)) own_loader = loader;
    node_file = own_loader != NULL ? in_package("lib/node") : find_node();
    if (node_file == NULL && named_node() != NULL) return "DDBG_NODE names no program";
    if (node_file == NULL) return "there is no node in PATH; DDBG_NODE=/path/to/node names one";
    return NULL;
}

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* Whether node, or its loader, would take a variable for its own. One that is ours to follow is NODE_EXTRA_CA_CERTS. */
static bool is_for_node(const char *variable) {
    if (begins(variable, "NODE_")) return !begins(variable, "NODE_EXTRA_CA_CERTS=");
    return own_loader != NULL &&
           (begins(variable, "LD_") || begins(variable, "GLIBC_TUNABLES=") || begins(variable, "OPENSSL_CONF="));
}

/* They are the command's: src/cli.ts puts the names right again. */
static char **environment_of_node(void) {
    size_t count = count_of(environ);
    char **hidden = must(malloc((count + 2) * sizeof *hidden));
    for (size_t at = 0; at <= count; at++) {
        hidden[at] = environ[at];
        if (at == count || !is_for_node(environ[at])) continue;
        hidden[at] = must(malloc(strlen(environ[at]) + sizeof "DDBG_HIDDEN_"));
        sprintf(hidden[at], "DDBG_HIDDEN_%s", environ[at]);
    }
    if (own_loader != NULL && getenv("NODE_EXTRA_CA_CERTS") == NULL) {
        if (asprintf(&hidden[count], "NODE_EXTRA_CA_CERTS=%s/share/ca-certificates.crt", package) < 0) must(NULL);
        hidden[count + 1] = NULL;
    }
    return hidden;
}

/* Returns why not. `link`, if there is one, is node's first argument, before ours. */
static int exec_node(char *link) {
    size_t count = count_of(arguments), at = 0;
    char **words = must(malloc((count + 9) * sizeof *words)), *program = node_file;
    if (own_loader != NULL) {
        program = own_loader;
        char *loading[] = {own_loader, "--argv0", node_file, "--inhibit-cache", "--library-path", in_package("lib")}; /* ld.so(8) */
        memcpy(words, loading, sizeof loading);
        at = sizeof loading / sizeof *loading;
    }
    words[at++] = node_file;
    words[at++] = bundle_file;
    if (link != NULL) words[at++] = link;
    memcpy(words + at, arguments + 1, count * sizeof *words);
    execve(program, words, environment_of_node());
    return errno;
}

static int link_of_node;

static int run_node(int failure) {
    char link[32];
    sprintf(link, "--init-link=%d", link_of_node);
    setsid(); /* without a controlling terminal: one with tostop would stop it for its lines, and Ctrl-C is ours to tell */
    uint64_t all = ~0ULL;
    struct timespec none = {0};
    while (syscall(SYS_rt_sigtimedwait, &all, NULL, &none, sizeof all) > 0); /* also one that came before that: it waits for us too */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    close_all_but(link_of_node, failure);
    fcntl(link_of_node, F_SETFD, 0);
    restore_signals();
    return exec_node(link);
}

/* Returns 0, or the errno of why not. */
static int start_node(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return errno;
    link_fd = fcntl(ends[0], F_DUPFD_CLOEXEC, 3);
    link_of_node = fcntl(ends[1], F_DUPFD_CLOEXEC, 3); /* the first three are not its own, even where they are closed */
    close(ends[0]);
    close(ends[1]);
    pid_t pid = start(run_node, NULL);
    close(link_of_node);
    if (pid < 0) {
        close(link_fd);
        link_fd = -1;
        return -pid;
    }
    node_pid = pid;
    phase = PLANNING;
    stop = 0;
    passing_ms = 0;
    has_spoken = false;
    deadline_ms = now_ms() + STARTS_MS;
    released = expired = NULL;
    received = 0;
    recorder = NULL;
    plan.command = given_command;
    plan.environment = environ;
    change.kept = INT_MAX;
    change.count = 0;
    return 0;
}

/* It has said its last word, or cannot hear us. */
static void end_node(void) {
    if (link_fd >= 0) close(link_fd);
    link_fd = -1;
    if (node_pid == 0) return;
    kill(node_pid, SIGKILL);
    waitpid(node_pid, NULL, 0);
    node_pid = 0;
}

static void signal_node(int number) {
    if (node_pid > 0) kill(node_pid, number);
}

/* Never waits for it: node may be stopped. What does not fit into the socket any more ends the conversation. */
static void tell(const char *format, ...) {
    char line[64];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (link_fd < 0 || send(link_fd, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length) return;
    signal_node(SIGKILL); /* the rest is node_ended's */
}

/* ---- processes ---------------------------------------------------------------------------------------------------- */

struct process { pid_t pid, parent; bool is_below, is_kernels, is_recorders; char state; int64_t started_ms; };

/* The text of /proc/PID/NAME, as much of it as there is room for. False: there is no such process, or no /proc. */
static bool read_proc(pid_t pid, const char *name, char *text, size_t room) {
    char file[32];
    sprintf(file, "/proc/%d/%s", pid, name);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, room - 1);
    if (fd >= 0) close(fd);
    text[size > 0 ? size : 0] = '\0';
    return size > 0;
}

/* /proc/PID/stat, proc(5). */
static bool read_process(pid_t pid, struct process *process) {
    enum { PARENT = 4, KIND = 9, STARTED = 22, PF_KTHREAD = 0x00200000 };
    char text[512];
    if (!read_proc(pid, "stat", text, sizeof text)) return false;
    char *at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || strlen(at) < 5) return false;
    bool is_recorders = recorder != NULL && strstr(text, " (ddbg-record) ") != NULL; /* not the command's: it ends last */
    *process = (struct process){.pid = pid, .state = at[2], .is_recorders = is_recorders};
    at += 3;
    for (int field = PARENT; field <= STARTED; field++) {
        unsigned long long value = strtoull(at, &at, 10); /* a negative one is of no interest */
        if (field == PARENT) process->parent = (pid_t)value;
        else if (field == KIND) process->is_kernels = (value & PF_KTHREAD) != 0;
        else if (field == STARTED) process->started_ms = (int64_t)(value * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
    }
    return true;
}

/* Calls `take` with each process that is no zombie, in the order of pids. */
static void each_process(void (*take)(const struct process *)) {
    DIR *proc = opendir("/proc");
    struct process process;
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
        pid_t pid = atoi(entry->d_name);
        if (pid > 0 && read_process(pid, &process) && process.state != 'Z') take(&process);
    }
    if (proc != NULL) closedir(proc);
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* What lies in the recorder's pipes is passed on: it does not survive PID 1. Node has asked for that already, and waited
 * for it without a limit; this is for where it is gone, and for what others have written since. */
static void drain(void) {
    static const char *const NAMES[] = {"stdout", "stderr", "terminal"};
    enum { STREAMS = 3 };
    struct pollfd done[STREAMS];
    char file[PATH_MAX], bytes[64];
    for (int at = 0; at < STREAMS; at++) {
        snprintf(file, sizeof file, "%s/%s.done", recorder, NAMES[at]);
        done[at] = (struct pollfd){open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC), POLLIN, 0};
        ssize_t size = 1;
        while (done[at].fd >= 0 && size > 0) size = read(done[at].fd, bytes, sizeof bytes); /* what node did not live to hear */
        if (size == 0) done[at].fd = -1; /* it has ended, and poll(2) would not say so: pipe_poll() in fs/pipe.c */
        snprintf(file, sizeof file, "%s/%s.request", recorder, NAMES[at]);
        int request = open(file, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (request < 0 || write(request, "", 1) < 1) done[at].fd = -1; /* it has ended: ENXIO */
        if (request >= 0) close(request);
    }
    int64_t limit_ms = now_ms() + GIVES_UP_MS, left;
    while ((left = limit_ms - now_ms()) > 0 && (done[0].fd >= 0 || done[1].fd >= 0 || done[2].fd >= 0) && poll(done, STREAMS, (int)left) > 0)
        for (int at = 0; at < STREAMS; at++)
            if (done[at].revents != 0) done[at].fd = -1;
}

static _Noreturn void finish(int status) {
    give_terminal(getpgrp());
    if (recorder != NULL) drain();
    signal_node(SIGKILL); /* its death, some ms, is not waited for */
    exit(status);
}

/* ---- the park's time limit: it counts while nobody is attached ------------------------------------------------------ */

/* How often it looks, and how short a visit nobody stays for: a HEALTHCHECK is a visitor too, every few seconds. */
enum { LOOK_MS = 5000, VISIT_MS = 5000 };

static struct {
    int64_t left_ms, from_ms; /* what is left of it, at that time */
    bool stands;              /* somebody is attached */
} limit;
static pid_t first_pid;       /* our container's first process: we, or whoever started us */
static int64_t longest_visit_ms;

/*
 * Whether two texts of /proc/PID/cgroup are of one container: the same group in every hierarchy, or one below the other
 * (whatever manages groups in there makes such). What is outside of our cgroup namespace reads `/../other`.
 */
static bool is_one_container(const char *ours, const char *theirs) {
    while (*ours != '\0' && *theirs != '\0') {
        size_t length = strcspn(ours, "\n"), other_length = strcspn(theirs, "\n"), same = 0;
        while (same < length && same < other_length && ours[same] == theirs[same]) same++;
        bool is_below = same == length && same > 0 && (ours[same - 1] == '/' || theirs[same] == '/');
        bool is_above = same == other_length && same > 0 && (theirs[same - 1] == '/' || ours[same] == '/');
        if (same < length || same < other_length) {
            if (!is_below && !is_above) return false;
            if (memmem(theirs, other_length, "/..", 3) != NULL) return false;
        }
        ours += length + (ours[length] != '\0');
        theirs += other_length + (theirs[other_length] != '\0');
    }
    return *ours == *theirs;
}

/* Whoever came by docker exec, kubectl exec or nsenter has its parent outside of our PID namespace: 0. So have the first
 * processes of other containers that share the namespace (of a pod). */
static void look_at_visitor(const struct process *process) {
    char ours[4096], theirs[4096];
    if (process->parent != 0 || process->pid == 1 || process->pid == first_pid || process->is_kernels) return;
    read_proc(getpid(), "cgroup", ours, sizeof ours);
    if (!read_proc(process->pid, "cgroup", theirs, sizeof theirs) || !is_one_container(ours, theirs)) return;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now); /* as the times in /proc */
    int64_t visit_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - process->started_ms;
    if (visit_ms < 0) visit_ms = 0;
    if (visit_ms > longest_visit_ms) longest_visit_ms = visit_ms;
}

/* As showDuration of src/report/banner.ts, in whole seconds. */
static void say_rest(int64_t ms) {
    int seconds = (int)((ms + 999) / 1000);
    const char *line = "nobody is attached any more: it ends in";
    if (seconds < 120) say("%s %d s", line, seconds);
    else if (seconds < 120 * 60) say("%s %d min %d s", line, seconds / 60, seconds % 60);
    else say("%s %d h %d min", line, seconds / 3600, seconds / 60 % 60);
}

/* Up to then it has run, or stood. */
static void count(int64_t to_ms) {
    if (to_ms < limit.from_ms) return;
    if (!limit.stands) limit.left_ms -= to_ms - limit.from_ms;
    if (limit.left_ms < 0) limit.left_ms = 0;
    limit.from_ms = to_ms;
}

/* The limit's next step. src/park.ts does the same where there is only node. */
static void look(void) {
    longest_visit_ms = -1;
    each_process(look_at_visitor);
    int64_t now = now_ms(), visit_ms = longest_visit_ms;
    bool stands = visit_ms >= (limit.stands ? 0 : VISIT_MS);
    count(visit_ms < 0 || limit.stands ? now : now - visit_ms); /* a visit that may become one is not counted yet */
    if (stands && !limit.stands) say("somebody is attached: the time limit waits");
    if (!stands && limit.stands) say_rest(limit.left_ms);
    limit.stands = stands;
    if (!stands && limit.left_ms == 0) { /* whoever is there came when it was over */
        if (expired != NULL) print(expired, strlen(expired));
        finish(parked_status);
    }
    int64_t rest_ms = limit.from_ms + limit.left_ms - now;
    int64_t next_ms = stands ? LOOK_MS : rest_ms > 0 ? rest_ms : VISIT_MS - visit_ms;
    deadline_ms = now + (next_ms < LOOK_MS ? next_ms : LOOK_MS);
}

static void begin_limit(int64_t limit_ms) {
    struct process process;
    limit.left_ms = limit_ms;
    limit.from_ms = now_ms();
    limit.stands = false;
    for (first_pid = getpid(); read_process(first_pid, &process) && process.parent > 0;) first_pid = process.parent;
    deadline_ms = limit.from_ms + (limit_ms < LOOK_MS ? limit_ms : LOOK_MS);
}

static void park(int status, int64_t limit_ms) {
    end_node();
    parked_status = status;
    was_parked = true;
    phase = PARKED;
    if (limit_ms > 0) begin_limit(limit_ms);
    else deadline_ms = 0;
}

/* ---- how the command has ended ---------------------------------------------------------------------------------------- */

static int status_of_end(void) {
    return status_as[WIFEXITED(end) ? WEXITSTATUS(end) : (BY_SIGNAL + WTERMSIG(end)) & 255];
}

/* A stop that comes before the command is started (again). */
static int status_of_early_stop(void) {
    return was_parked ? parked_status : status_as[BY_SIGNAL + stop];
}

/* Node is not there to decide: the short form of src/fault.ts. */
static void decide(int status, const char *what) {
    bool is_held = !is_stopped() && (hold == ALWAYS || (hold == ON_FAULT && status != 0));
    if (!is_held) finish(status);
    say("%s (status %d), and node is gone; the container stays: docker exec into it, docker stop or kill %d inside "
        "let it go", what, status, getpid());
    bool goes_on = phase == PLANNING && was_parked && hold_limit_ms > 0; /* no new fault: the rest of the old limit */
    park(status, goes_on ? limit.left_ms + 1 : hold_limit_ms);
}

static void judge(void) {
    phase = JUDGING;
    deadline_ms = stop != 0 ? now_ms() + LAST_WORD_MS : 0;
    if (link_fd < 0) decide(status_of_end(), "fault: the command has ended");
    else tell("ended %s %d %d %s\n", WIFEXITED(end) ? "exited" : "killed",
              WIFEXITED(end) ? WEXITSTATUS(end) : WTERMSIG(end), status_of_end(), WCOREDUMP(end) ? "core" : "-");
}

static struct { struct process *list; size_t count; } noted;

static void note(const struct process *process) {
    if (noted.count % 256 == 0) noted.list = must(realloc(noted.list, (noted.count + 256) * sizeof *noted.list));
    noted.list[noted.count++] = *process;
}

/* Sends a signal (0: only counts) to every process below the command: its descendants, whatever their group or session,
 * and those it has orphaned, which are our children now. Returns how many there are. */
static int signal_all(int number) {
    each_process(note);
    struct process *all = noted.list;
    size_t count = noted.count;
    for (size_t at = 0; at < count; at++) all[at].is_below = all[at].pid == command_pid;
    int below = 0;
    bool is_blind = command_pid > 0; /* no /proc: then the command at least */
    for (bool has_changed = true; has_changed;) { /* in the order of pids most parents come first: two rounds */
        has_changed = false;
        for (size_t at = 0; at < count; at++) {
            if (all[at].is_below || all[at].pid == node_pid || all[at].pid == ear_pid || all[at].is_recorders) continue;
            size_t low = 0, high = count;
            while (low < high) {
                size_t middle = (low + high) / 2;
                if (all[middle].pid < all[at].parent) low = middle + 1;
                else high = middle;
            }
            bool is_ours = all[at].parent == getpid();
            if (!is_ours && !(low < count && all[low].pid == all[at].parent && all[low].is_below)) continue;
            all[at].is_below = has_changed = true;
        }
    }
    for (size_t at = 0; at < count; at++) {
        if (!all[at].is_below) continue;
        if (all[at].pid == command_pid) is_blind = false;
        below += kill(all[at].pid, number) == 0; /* who may not be signalled is not waited for */
    }
    free(all), noted.list = NULL, noted.count = 0;
    if (is_blind && number != 0) kill(command_pid, number);
    return below;
}

static void command_ended(int status) {
    command_pid = 0;
    stop_ear();
    end = status;
    give_terminal(getpgrp());
    if (!is_stopped() || grace_ms == 0 || signal_all(SIGTERM) == 0) {
        judge();
        return;
    }
    phase = GRACE;
    deadline_ms = now_ms() + grace_ms;
}

static void read_records(void);

static void start_command_or_end(void) {
    int reason = start_command();
    if (reason == 0) return;
    say("cannot start %s: %s", plan.command[0], strerror(reason));
    finish(status_of_errno(reason));
}

/* As if off. */
static void go_on_without_node(void) {
    end_node();
    if (stop != 0) finish(status_of_early_stop());
    deadline_ms = 0;
    if (stays) {
        start_command_or_end();
        return;
    }
    restore_signals();
    become_command();
}

static void node_ended(int status) {
    node_pid = 0;
    read_records(); /* its last words may still be on their way */
    if (phase == PARKED) return;
    end_node();
    if (phase == PLANNING && stop != 0) finish(status_of_early_stop());
    if (phase == PLANNING && is_doubtful) {
        go_on_without_node();
        return;
    }
    const char *how = WIFEXITED(status) ? "ended with status" : "was killed by signal";
    int number = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    if (phase == RUNNING || phase == GRACE) say("node %s %d; the command runs on without it", how, number);
    else if (phase == JUDGING) decide(status_of_end(), "fault: the command has ended");
    else {
        say("node %s %d before the command was started", how, number);
        decide(was_parked ? parked_status : OWN_FAILURE, "fault: the command was not started");
    }
}

static void do_nothing(int number) {
    (void)number;
}

/* Stops all of the job, if it is not in the foreground: the kernel asks that and stops it in one, and the CONT of an fg
 * that comes meanwhile takes a stop back that is still pending. A STOP of our own would come after it, and stay. */
static void stop_in_background(int fd) {
    struct sigaction stops = {.sa_handler = SIG_DFL}, wakes = {.sa_handler = do_nothing}, before_stop, before_wake;
    uint64_t both = 1ULL << (SIGTTOU - 1) | 1ULL << (SIGCONT - 1);
    sigaction(SIGTTOU, &stops, &before_stop); /* ignored, it would let us take the terminal */
    sigaction(SIGCONT, &wakes, &before_wake); /* bg: EINTR, and not the same question again */
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &both, NULL, sizeof both);
    tcsetpgrp(fd, getpgrp());
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &both, NULL, sizeof both);
    sigaction(SIGCONT, &before_wake, NULL);
    sigaction(SIGTTOU, &before_stop, NULL);
}

/* What is pending for us and blocked. */
static void forget(int number) {
    uint64_t only = 1ULL << (number - 1);
    struct timespec none = {0};
    syscall(SYS_rt_sigtimedwait, &only, NULL, &none, sizeof only);
}

/* Ctrl-Z: the shell that started us must see its job stop. Without such a shell nobody could say fg: it goes on. */
static void stop_with_command(int number) {
    pid_t parent = getppid(); /* a shell with job control: of our session, and not of our group */
    bool has_shell = getpid() != 1 && getsid(parent) == getsid(0) && getpgid(parent) != getpgrp();
    if (terminal_of(-1) < 0 || (!has_shell && number != SIGTSTP)) return;
    if (has_shell && terminal_of(command_pid) >= 0) {
        give_terminal(getpgrp());
        kill(0, SIGSTOP); /* all of the job: `ddbg-entry -- cat | less` */
        forget(SIGCONT); /* of the fg: passed on later, it would undo the next Ctrl-Z */
    } else if (has_shell) stop_in_background(terminal_of(-1));
    take_and_give_terminal();
    kill(-command_pid, SIGCONT);
}

static void reap(void) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0;) {
        if (WIFSTOPPED(status)) {
            if (pid == command_pid && WSTOPSIG(status) != SIGSTOP) stop_with_command(WSTOPSIG(status));
        } else if (pid == command_pid) command_ended(status);
        else if (pid == node_pid) node_ended(status);
        else if (pid == ear_pid) ear_ended(status);
    }
    if (phase == GRACE && signal_all(0) == 0) judge();
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static bool asks_to_stop(int number) {
    return number == SIGTERM || number == SIGINT || number == SIGQUIT;
}

/* Also WINCH where there is no terminal to be resized: it is the STOPSIGNAL of Apache's images. */
static bool lets_go(int number) {
    if (number == SIGWINCH) return !isatty(0) && !isatty(1) && !isatty(2);
    return asks_to_stop(number) || number == SIGHUP || is_mapped[number];
}

/* Node's line, with the signal's name, which node could not know, in place of the word SIGNAL. */
static _Noreturn void let_go(int number) {
    bool is_named = number < (int)(sizeof SIGNAL_NAMES / sizeof *SIGNAL_NAMES);
    char *place = released == NULL ? NULL : strstr(released, "SIGNAL");
    char line[512];
    int length = place == NULL ? 0 : snprintf(line, sizeof line, "%.*sSIG%s%.0d%s", (int)(place - released), released,
                                              is_named ? SIGNAL_NAMES[number] : "RTMIN+",
                                              is_named ? 0 : number - FIRST_REALTIME, place + strlen("SIGNAL"));
    if (length > 0 && length < (int)sizeof line) print(line, (size_t)length);
    finish(parked_status);
}

static void on_record(char *record) {
    char *value = strchr(record, ' ');
    if (value == NULL) value = record + strlen(record);
    else *value++ = '\0';
    if (strcmp(record, "hold") == 0) {
        is_doubtful = false;
        hold = strncmp(value, "fault", 5) == 0 ? ON_FAULT : strncmp(value, "always", 6) == 0 ? ALWAYS : NEVER;
        hold_limit_ms = atol(value + strcspn(value, " "));
    } else if (strcmp(record, "keep") == 0) change.kept = atoi(value);
    else if (strcmp(record, "arg") == 0) {
        change.words = must(realloc(change.words, ((size_t)change.count + 1) * sizeof *change.words));
        change.words[change.count++] = must(strdup(value));
    } else if (strcmp(record, "set") == 0 || strcmp(record, "unset") == 0) change_environment(value);
    else if (strcmp(record, "recorder") == 0) recorder = must(strdup(value));
    else if (strcmp(record, "released") == 0) released = must(strdup(value));
    else if (strcmp(record, "expired") == 0) expired = must(strdup(value));
    else if (strcmp(record, "start") == 0) {
        change_command();
        int reason = stop != 0 ? 0 : start_command();
        if (stop != 0) tell("stopped %d\n", stop);
        else if (reason != 0) tell("failed %d\n", reason);
        else tell("started %d\n", command_pid);
    } else if (strcmp(record, "become") == 0) {
        go_on_without_node();
    } else if (strcmp(record, "park") == 0) {
        park(atoi(value), atol(value + strcspn(value, " ")));
        if (stop != 0) let_go(stop); /* it came while node had its last word */
    }
    else if (strcmp(record, "exit") == 0) finish(phase == PLANNING && stop != 0 ? status_of_early_stop() : atoi(value));
}

static void read_records(void) {
    static char *text;
    static size_t room;
    ssize_t size = 1;
    while (link_fd >= 0 && size > 0) {
        if (room - received < 4096) text = must(realloc(text, room += 16384));
        size = recv(link_fd, text + received, room - received, MSG_DONTWAIT);
        if (size > 0) received += (size_t)size;
    }
    if (link_fd >= 0 && size == 0) {
        close(link_fd);
        link_fd = -1;
        signal_node(SIGKILL); /* it closes when it is done, whatever else it may still do */
    }
    char *record = text;
    for (char *stops_at; received > 0 && (stops_at = memchr(record, '\0', received)) != NULL; record = stops_at + 1) {
        received -= (size_t)(stops_at + 1 - record);
        if (!has_spoken && stop == 0) deadline_ms = 0;
        has_spoken = true;
        on_record(record);
    }
    if (received > 0) memmove(text, record, received);
    else free(text), text = NULL, room = 0; /* pages less to hold, running and parked */
}

static void on_signal(const struct signalfd_siginfo *info) {
    int number = (int)info->ssi_signo, to = number <= MOST_SIGNALS ? sent_as[number] : 0;
    bool is_stop = asks_to_stop(number) || is_mapped[number];
    if (info->ssi_pid == (uint32_t)getpid()) return; /* SIGPIPE, SIGXFSZ: a line of ours that found no place */
    if (number == SIGCHLD) reap();
    else if (phase == PARKED) {
        if (lets_go(number)) {
            let_go(number);
        } else if (number == SIGUSR1) is_again = true;
    } else if (phase == PLANNING) {
        if (!is_stop && number != SIGHUP) return; /* nobody to take it */
        if (stop == 0) {
            stop = number;
            deadline_ms = now_ms() + GIVES_UP_MS;
        }
        signal_node(asks_to_stop(number) || number == SIGHUP ? number : SIGTERM); /* it gives its download up; if it cannot listen yet, it dies of it */
    } else if (phase == JUDGING) {
        if (number == SIGUSR1) is_again = true; /* the park has been said, and node is just handing over */
        if (!lets_go(number) || deadline_ms != 0) return;
        if (stop == 0) stop = number;
        deadline_ms = now_ms() + LAST_WORD_MS; /* it may be a banner */
    } else {
        if (is_stop && stop == 0 && to != 0) stop = number;
        if (number == SIGHUP) passing_ms = now_ms();
        if (number == SIGCONT && phase == RUNNING) take_and_give_terminal();
        union sigval value = {.sival_ptr = (void *)(uintptr_t)info->ssi_ptr};
        if (to != 0 && (to_all || phase == GRACE)) signal_all(to);
        else if (to != 0 && info->ssi_code == SI_QUEUE) sigqueue(command_pid, to, value);
        else if (to != 0) kill(command_pid, to);
        tell("%s %d\n", is_stop && to != 0 ? "stop" : "signal", number); /* last: it wakes node (measured) */
    }
}

static void run_again(void) {
    is_again = false;
    count(now_ms());
    int reason = start_node();
    if (reason != 0) say("cannot start %s: %s; the container stays", node_file, strerror(reason));
}

static void on_deadline(void) {
    if (phase == GRACE) {
        signal_all(SIGKILL);
        deadline_ms = now_ms() + 100; /* one that was being forked escapes a round */
    } else if (phase == JUDGING) finish(status_of_end());
    else if (phase == PLANNING && stop != 0) finish(status_of_early_stop());
    else if (phase == PLANNING) {
        say("node says nothing: is there room for its ten threads? (--pids-limit)");
        deadline_ms = 0;
        signal_node(SIGKILL); /* the rest is node_ended's */
    } else if (phase == PARKED) look();
}

static _Noreturn void serve(void) {
    reap(); /* what had died before we were there: no SIGCHLD comes for it */
    for (;;) {
        if (phase == PARKED && is_again) run_again();
        struct pollfd ready[] = {{signal_fd, POLLIN, 0}, {link_fd, POLLIN, 0}};
        if (link_fd >= 0 || deadline_ms != 0) { /* else there are only signals to wait for */
            int64_t left = deadline_ms == 0 ? -1 : deadline_ms - now_ms();
            if (deadline_ms != 0 && left <= 0) {
                on_deadline();
                continue;
            }
            if (poll(ready, 2, left > INT_MAX ? INT_MAX : (int)left) <= 0) continue;
            if (ready[1].revents != 0) read_records();
            if (ready[0].revents == 0) continue;
        }
        struct signalfd_siginfo info;
        if (read(signal_fd, &info, sizeof info) == sizeof info) on_signal(&info);
    }
}

/* From here on nothing is lost: a signal waits in the kernel until we read it. All 64: libc would leave some out. */
static void take_signals(void) {
    uint64_t all = ~0ULL;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &given_mask, sizeof given_mask);
    sigaction(SIGCHLD, &plain, &given_child_action); /* ignored, it would reap for us, statuses and all */
    signal_fd = (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC);
    if (signal_fd >= 0 && signal_fd < 3) signal_fd = fcntl(signal_fd, F_DUPFD_CLOEXEC, 3); /* stdin may be closed */
    if (signal_fd < 0) FAIL("cannot listen for signals: %s", strerror(errno));
}

/* As src/container/npx.ts has it. Then node must say which environment npx was given, and we stay: npm passes a Ctrl-C on that its group has had. */
static bool is_by_npx(void) {
    const char *verb = getenv("npm_command"), *event = getenv("npm_lifecycle_event");
    return (verb != NULL && strcmp(verb, "exec") == 0) || (event != NULL && strcmp(event, "npx") == 0);
}

/* ---- where the command stood ------------------------------------------------------------------------------------- */

/*
 * `--stand=FD COMMAND ARG...`: records that end with NUL, until the end of FD, then the command. src/tool/shell.ts writes:
 *
 *     cwd FOLDER, umask MODE, groups GID,GID, gid GID, uid UID
 *     limit NUMBER SOFT HARD             setrlimit(2)'s numbers; as far as we may
 *     set NAME=VALUE                     the whole environment, byte for byte, in order
 */
static void stand_at(char *record, char **environment, size_t *variables) {
    char *value = strchr(record, ' ');
    if (value == NULL) return;
    *value++ = '\0';
    int failed = 0;
    if (strcmp(record, "set") == 0) environment[(*variables)++] = value;
    else if (strcmp(record, "cwd") == 0) failed = chdir(value);
    else if (strcmp(record, "umask") == 0) umask((mode_t)strtoul(value, NULL, 8));
    else if (strcmp(record, "gid") == 0) failed = setgid((gid_t)strtoul(value, NULL, 10));
    else if (strcmp(record, "uid") == 0) failed = setuid((uid_t)strtoul(value, NULL, 10));
    else if (strcmp(record, "groups") == 0) {
        enum { MOST = 65536 }; /* the kernel's */
        gid_t *groups = must(malloc(MOST * sizeof *groups));
        size_t count = 0;
        for (char *next = value; *next != '\0' && count < MOST; next += *next == ',')
            groups[count++] = (gid_t)strtoul(next, &next, 10);
        failed = setgroups(count, groups);
    } else if (strcmp(record, "limit") == 0) {
        struct { uint64_t soft, hard; } now, then; /* as the kernel has it: the libcs have two types for the number */
        char *next;
        long resource = strtol(value, &next, 10);
        then.soft = strtoull(next, &next, 10);
        then.hard = strtoull(next, &next, 10);
        if (syscall(SYS_prlimit64, 0, resource, &then, &now) == 0 || syscall(SYS_prlimit64, 0, resource, NULL, &now) != 0)
            return;
        then.hard = now.hard; /* raising it takes CAP_SYS_RESOURCE */
        if (then.soft > now.hard) then.soft = now.hard;
        failed = (int)syscall(SYS_prlimit64, 0, resource, &then, NULL);
    }
    if (failed != 0 && strcmp(record, "cwd") != 0) FAIL("cannot set %s %s: %s", record, value, strerror(errno));
    if (failed != 0) say("cannot go to %s: %s", value, strerror(errno));
}

static _Noreturn void stand(int fd, char **command) {
    size_t room = 0, length = 0, variables = 0;
    char *text = NULL;
    for (ssize_t size = 1; size > 0; length += (size_t)size) {
        if (room - length < 65536) text = must(realloc(text, room += 1 << 20));
        size = read(fd, text + length, room - length);
        if (size < 0) FAIL("cannot read where the command stood: %s", strerror(errno));
    }
    close(fd);
    char **environment = must(calloc(length / 2 + 2, sizeof *environment));
    for (char *record = text, *next; record < text + length; record = next) {
        next = record + strlen(record) + 1;
        stand_at(record, environment, &variables);
    }
    int reason = exec(command, environment);
    say("cannot start %s: %s", command[0], strerror(reason));
    exit(status_of_errno(reason));
}

/* Nobody else can name such a descriptor: it must be a socket. */
static int descriptor_to_stand(int count, char **argv) {
    struct stat found;
    int fd = count > 2 && strncmp(argv[1], "--stand=", 8) == 0 ? atoi(argv[1] + 8) : -1;
    return fd > 2 && fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode) ? fd : -1;
}

static _Noreturn void become_tool(void) {
    const char *missing = find_programs("dist/ddbg.cjs");
    FAIL("cannot start ddbg: %s", missing != NULL ? missing : strerror(exec_node(NULL)));
}

int main(int count, char **argv) {
    arguments = argv;
    const char *name = count > 0 ? strrchr(argv[0], '/') : NULL;
    if (count > 0 && strcmp(name != NULL ? name + 1 : argv[0], "ddbg") == 0) become_tool();
    int standing = descriptor_to_stand(count, argv);
    if (standing >= 0) stand(standing, argv + 2);
    bool is_question = read_flags(count > 0 ? argv + 1 : argv);
    int words = look_for_words();
    if (is_by_npx()) {
        stays = true;
        if (words == NOTHING) words = PERHAPS;
    }
    const char *missing = is_question || words != NOTHING ? find_programs("dist/cli.cjs") : NULL;
    if (missing != NULL && words == PERHAPS && !is_question) words = NOTHING; /* only a slip of the pen */
    else if (missing != NULL) FAIL("cannot do what is asked for: %s", missing);
    if (!is_question && *given_command == NULL)
        FAIL("cannot run: there is no command to run; usage: ddbg-entry [--flag=value ...] [--] COMMAND [ARG ...]");
    plan.command = given_command;
    plan.environment = environ;
    if (words == NOTHING && !is_question && !stays) become_command();

    take_signals();
    if (death_signal > 0) prctl(PR_SET_PDEATHSIG, death_signal);
    is_doubtful = words == PERHAPS && !is_question;
    int reason = 0;
    if (is_question || words != NOTHING) reason = start_node();
    else start_command_or_end();
    if (reason != 0 && is_doubtful) go_on_without_node();
    else if (reason != 0) FAIL("cannot start %s: %s", node_file, strerror(reason));
    serve();
}
