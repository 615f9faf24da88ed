/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a container's listening socket and its connections. What may block runs on a worker, one
 * message a connection, while the connection is not polled for input: nearly all does, because
 * looking at a program may have to wait for it (session_knows()).
 *
 * Closing the last copy of a descriptor may wait for a program: a file of its own FUSE mount is
 * flushed, a socket lingers. So the loop's thread never has one in its hands. Messages with
 * descriptors are received on workers, few of each user's at a time; a connection that ends with
 * such messages unread is closed on a worker too, one for the container, and when many wait for
 * that, nobody is let in. */
#include "danaus/server/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/notify/notify.h"
#include "danaus/pool/loop.h"
#include "danaus/pool/pool.h"
#include "danaus/pool/stats.h"
#include "danaus/proto/attach.h"
#include "danaus/shm/channel.h"
#include "danaus/shm/client.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define TURNS_USERS 16 /* that have one */
#define CLOSING_MAX 64 /* connections whose close may block */

/* Messages of one user's that are in work on workers: with descriptors, whose close may wait for a
 * program, and others, for which a look at the caller may (session_knows()). */
enum turn_kind { TURN_DESCRIPTORS, TURN_PLAIN, TURN_KINDS };
static const unsigned turns_per_user[TURN_KINDS] = {8, 24};

#define MESSAGE_MAX (sizeof(struct wire_request) + 2 * WIRE_PATH_MAX)

enum peer_state { PEER_PENDING, PEER_CLIENT, PEER_ENDED };

struct peer {
	struct attach *attach;
	_Atomic uint32_t refs; /* the list's, and a worker's */
	int fd;
	enum peer_state state; /* with client, under the lock */
	struct client *client;
	struct peer *next, **link; /* oldest first; next also in closing */
	int turn;		   /* in attach->turns of that kind; -1: none of them */
	enum turn_kind kind;
	bool waits; /* for a turn */
	/* one message in work */
	bool received; /* but not begun */
	struct known_identity known;
	int fd_in;
	size_t len;
	char message[MESSAGE_MAX];
	char payload[WIRE_PATH_MAX];
};

struct attach {
	struct container *container;
	int listener, spare;  /* spare: given up to refuse a peer when descriptors run out */
	pthread_mutex_t lock; /* the lists and states */
	pthread_cond_t idle;
	struct peer *peers, **last;
	unsigned pending, live; /* not said hello; not freed */
	unsigned nwait;		/* for a turn */
	struct {
		uid_t uid;
		unsigned n; /* 0: free */
	} turns[TURN_KINDS][TURNS_USERS];
	struct peer *closing;
	unsigned nclosing;
	bool has_closer, full; /* a worker closes those; nobody is let in meanwhile */
	bool stopping;
};

static void peer_free(struct peer *peer)
{
	struct attach *attach = peer->attach;

	fd_close(peer->fd);
	pthread_mutex_lock(&attach->lock);
	attach->live--;
	pthread_cond_broadcast(&attach->idle);
	pthread_mutex_unlock(&attach->lock);
	free(peer);
}

/* On a worker, or on the thread that stops. */
static void close_peers(void *arg)
{
	struct attach *attach = arg;
	struct peer *peer;

	pthread_mutex_lock(&attach->lock);
	while ((peer = attach->closing)) {
		attach->closing = peer->next;
		attach->nclosing--;
		if (attach->full && !attach->stopping)
			loop_modify(attach->container->pool->loop, attach->listener, EPOLLIN);
		attach->full = false;
		pthread_mutex_unlock(&attach->lock);
		peer_free(peer);
		pthread_mutex_lock(&attach->lock);
	}
	attach->has_closer = false;
	pthread_cond_broadcast(&attach->idle);
	pthread_mutex_unlock(&attach->lock);
}

static void close_later(struct peer *peer)
{
	struct attach *attach = peer->attach;
	struct pool *pool = attach->container->pool;

	pthread_mutex_lock(&attach->lock);
	peer->next = attach->closing;
	attach->closing = peer;
	attach->nclosing++;
	if (attach->nclosing >= CLOSING_MAX && !attach->full && !attach->stopping) {
		attach->full = true;
		loop_modify(pool->loop, attach->listener, 0);
	}
	/* no worker to be had: the next one's, or attach_stop() */
	if (!attach->has_closer)
		attach->has_closer = !pool_run(pool, close_peers, attach);
	pthread_mutex_unlock(&attach->lock);
}

static void peer_unref(struct peer *peer)
{
	if (atomic_fetch_sub(&peer->refs, 1) != 1)
		return;
	if (peer->known.cred)
		cred_unref(peer->known.cred);
	if (fd_descriptors_wait(peer->fd))
		close_later(peer);
	else
		peer_free(peer);
}

/* A turn for a message. False: the user has enough of them; when one ends, the connection is polled
 * again. Not so where the message is received already. */
static bool turn_begin(struct peer *peer, enum turn_kind kind)
{
	struct attach *attach = peer->attach;
	struct ucred ucred;
	socklen_t len = sizeof(ucred);
	int at = -1;

	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &ucred, &len) < 0)
		ucred.uid = -1;
	loop_modify(attach->container->pool->loop, peer->fd, 0);
	pthread_mutex_lock(&attach->lock);
	for (int i = 0; i < TURNS_USERS; i++) {
		if (attach->turns[kind][i].n && attach->turns[kind][i].uid == ucred.uid) {
			at = i;
			break;
		}
		if (!attach->turns[kind][i].n)
			at = i;
	}
	if (at >= 0 && (attach->turns[kind][at].n < turns_per_user[kind] || peer->received)) {
		attach->turns[kind][at].uid = ucred.uid;
		attach->turns[kind][at].n++;
	} else if (!peer->received) {
		at = -1;
		attach->nwait += !peer->waits && peer->state != PEER_ENDED;
		peer->waits = peer->state != PEER_ENDED;
	}
	pthread_mutex_unlock(&attach->lock);
	peer->turn = at;
	peer->kind = kind;
	return at >= 0 || peer->received;
}

static void turn_end(struct attach *attach, enum turn_kind kind, int turn)
{
	pthread_mutex_lock(&attach->lock);
	if (turn >= 0)
		attach->turns[kind][turn].n--;
	for (struct peer *peer = attach->peers; attach->nwait && peer; peer = peer->next) {
		if (!peer->waits)
			continue;
		peer->waits = false;
		attach->nwait--;
		loop_modify(attach->container->pool->loop, peer->fd, EPOLLIN | EPOLLRDHUP);
	}
	pthread_mutex_unlock(&attach->lock);
}

/* Off the list and off the loop; its client ends. Any thread; the first one does it. */
static void peer_end(struct peer *peer)
{
	struct attach *attach = peer->attach;
	enum peer_state state;
	struct client *client;

	pthread_mutex_lock(&attach->lock);
	state = peer->state;
	client = peer->client;
	peer->state = PEER_ENDED;
	peer->client = NULL;
	if (state == PEER_PENDING)
		attach->pending--;
	attach->nwait -= peer->waits;
	peer->waits = false;
	if (state != PEER_ENDED) {
		*peer->link = peer->next;
		if (peer->next)
			peer->next->link = peer->link;
		else
			attach->last = peer->link;
	}
	pthread_mutex_unlock(&attach->lock);
	if (state == PEER_ENDED)
		return;
	loop_remove(attach->container->pool->loop, peer->fd);
	if (client)
		client_end(client);
	shutdown(peer->fd, SHUT_RDWR);
	peer_unref(peer);
}

static void message_done(struct peer *peer, const struct call *call, int fd_out)
{
	struct wire_reply reply = call->reply;
	char answer[sizeof(reply) + WIRE_PATH_MAX];

	if (reply.len > WIRE_PATH_MAX)
		reply.len = 0;
	if (!call->has_attr)
		memset(&reply.attr, 0, sizeof(reply.attr));
	memcpy(answer, &reply, sizeof(reply));
	memcpy(answer + sizeof(reply), peer->payload, reply.len);
	/* a peer that does not read its answers loses them and its connection */
	if (fd_send(peer->fd, answer, sizeof(reply) + reply.len, &fd_out, fd_out >= 0) < 0)
		peer_end(peer);
}

/* False: it was to be at once, and that cannot be. */
static bool run_message(struct peer *peer, bool at_once)
{
	struct container *container = peer->attach->container;
	struct session *session = NULL;
	struct client *client;
	uint64_t started = stats_now();
	bool done = true;
	struct call call;
	int r;

	pthread_mutex_lock(&peer->attach->lock);
	client = peer->client ? client_ref(peer->client) : NULL;
	pthread_mutex_unlock(&peer->attach->lock);
	if (client) {
		session = client_session(client);
		call.known = &peer->known;
		r = call_take(&call, session, (const struct wire_request *)peer->message,
			      peer->message + sizeof(struct wire_request),
			      peer->len - sizeof(struct wire_request));
		if (!r && !(wire_op_flags(call.request.op) & OPF_BY_SOCKET))
			r = -EPROTO;
		if (!r) {
			call.payload = peer->payload;
			call.fd_in = peer->fd_in;
			call.at_once = at_once;
			r = call_run(&call);
		}
		done = !call.would_look;
		call.reply.error = r;
		if (done)
			message_done(peer, &call, call.fd_out);
		if (call.fd_out >= 0 && call.request.op == WIRE_NAME)
			anchor_give_done(container->pool->anchors, call.fd_out);
		else
			fd_close(call.fd_out);
		if (done)
			stats_count(DOOR_SHM, call.request.op, started, 0, r);
		call_done(&call);
	}
	if (done)
		peer->fd_in = fd_discard(peer->fd_in);
	if (client)
		client_unref(client);
	return done;
}

/* False: there is none, or the connection has ended. */
static bool receive_message(struct peer *peer)
{
	unsigned nfds = 1;
	int fd = -1, r;

	r = fd_recv(peer->fd, peer->message, sizeof(peer->message), &peer->len, &fd, &nfds);
	if (r == -EAGAIN)
		return false;
	if (r < 0 || peer->len < sizeof(struct wire_request)) {
		if (r >= 0 && nfds)
			fd_discard(fd);
		peer_end(peer);
		return false;
	}
	peer->fd_in = nfds ? fd : -1;
	return true;
}

/* Whether the next message can be answered on the loop's thread: making an anchor does not block,
 * and a fork waits for it. */
static bool is_at_once(struct peer *peer)
{
	struct wire_request request;
	bool known = false;

	if (recv(peer->fd, &request, sizeof(request), MSG_PEEK | MSG_DONTWAIT) != sizeof(request) ||
	    request.op != WIRE_NAME)
		return false;
	pthread_mutex_lock(&peer->attach->lock);
	if (peer->client)
		known = session_knows(client_session(peer->client), &peer->known, request.tid);
	pthread_mutex_unlock(&peer->attach->lock);
	return known;
}

/* The process at the other end. SO_PEERCRED's number is that of the process that connected; it may
 * have ended since, and its number may be another one's: with SO_PEERPIDFD that shows. */
static int peer_process(struct peer *peer, struct process **ret)
{
	struct container *container = peer->attach->container;
	struct process *process;
	struct ucred ucred;
	socklen_t len = sizeof(ucred);
	CLEANUP_FD int pidfd = -1;
	int r;

	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &ucred, &len) < 0)
		return -errno;
	if (ucred.pid <= 0)
		return -EPERM;
	len = sizeof(pidfd);
	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) < 0) {
		pidfd = -1;
		if (errno != ENOPROTOOPT)
			return -ESRCH;
	}
	r = process_get(container, ucred.pid, &process);
	if (r < 0)
		return r;
	if (process_pid(process) != ucred.pid ||
	    (pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)) {
		process_unref(process);
		return -ESRCH;
	}
	/* this program has just started: what was known is of the one before it */
	process_rights_settled(process);
	*ret = process;
	return 0;
}

static void welcome_client(struct peer *peer)
{
	struct attach *attach = peer->attach;
	struct attach_welcome welcome = {.nslots = SHM_SLOTS, .channel_bytes = SHM_CHANNEL_BYTES};
	struct process *process = NULL;
	struct client *client = NULL;
	CLEANUP_FD int memfd = -1;
	uint32_t filters;

	welcome.error = peer_process(peer, &process);
	if (!welcome.error)
		welcome.error = client_new(attach->container->pool->shm, process, &client, &memfd);
	if (!welcome.error)
		welcome.error = process_status(process, &filters, &welcome.umask);
	if (!welcome.error) {
		uint32_t heard = atomic_load(&attach->container->filters);

		welcome.notify = heard && filters >= heard;
		welcome.elsewhere = !process_in_mounts(process, process_pid(process));
		welcome.error = session_channel(client_session(client), memfd, welcome.notify);
	}
	process_unref(process);
	if (!welcome.error) {
		pthread_mutex_lock(&attach->lock);
		if (peer->state == PEER_PENDING) {
			peer->state = PEER_CLIENT;
			peer->client = client;
			attach->pending--;
			client = NULL;
		}
		pthread_mutex_unlock(&attach->lock);
	}
	if (client) /* ended in the meantime */
		client_end(client);
	if (fd_send(peer->fd, &welcome, sizeof(welcome), &memfd, memfd >= 0) < 0 || welcome.error)
		peer_end(peer);
}

/* init has loaded the filter: it and what it execs obeys so many. The least counts: a program may
 * add filters of its own, also before another init. */
static void heard_from(struct container *container, uint32_t filters)
{
	uint32_t least = atomic_load(&container->filters);

	while ((!least || filters < least) &&
	       !atomic_compare_exchange_weak(&container->filters, &least, filters))
		;
}

static void welcome_listener(struct peer *peer, int listener)
{
	struct attach_welcome welcome = {.error = -EPROTO};
	struct process *process = NULL;
	uint32_t filters = 0, mask;

	if (listener >= 0) {
		welcome.error = peer_process(peer, &process);
		if (!welcome.error)
			welcome.error = process_status(process, &filters, &mask);
		process_unref(process);
		welcome.error =
		    welcome.error ? welcome.error : notify_serve(peer->attach->container, listener);
		if (!welcome.error && filters)
			heard_from(peer->attach->container, filters);
		if (welcome.error)
			log_limited(LOG_WARN, "container %s: a listener was refused: %s",
				    peer->attach->container->id, strerror(-welcome.error));
	}
	fd_send(peer->fd, &welcome, sizeof(welcome), NULL, 0);
	peer_end(peer);
}

static void on_hello(struct peer *peer)
{
	struct attach_hello hello;
	unsigned nfds = 1;
	size_t len = 0;
	int fd = -1, r = fd_recv(peer->fd, &hello, sizeof(hello), &len, &fd, &nfds);

	if (r == -EAGAIN)
		return;
	if (r < 0)
		nfds = 0;
	if (r < 0 || len != sizeof(hello) || hello.magic != ATTACH_MAGIC) {
		if (nfds)
			fd_discard(fd);
		peer_end(peer);
		return;
	}
	if (hello.version != WIRE_VERSION) {
		struct attach_welcome welcome = {.error = -EPROTONOSUPPORT};

		if (nfds)
			fd_discard(fd);
		fd_send(peer->fd, &welcome, sizeof(welcome), NULL, 0);
		peer_end(peer);
		return;
	}
	if (hello.kind == ATTACH_LISTENER) {
		welcome_listener(peer, nfds ? fd : -1);
		return;
	}
	if (nfds)
		fd_discard(fd);
	if (hello.kind == ATTACH_CLIENT)
		welcome_client(peer);
	else
		peer_end(peer);
}

static enum peer_state state_of(struct peer *peer)
{
	enum peer_state state;

	pthread_mutex_lock(&peer->attach->lock);
	state = peer->state;
	pthread_mutex_unlock(&peer->attach->lock);
	return state;
}

/* A message that may block, on a worker. */
static void take_turn(void *arg)
{
	struct peer *peer = arg;
	struct attach *attach = peer->attach;
	enum turn_kind kind = peer->kind;
	int turn = peer->turn;
	enum peer_state state = state_of(peer);

	if (state == PEER_PENDING)
		on_hello(peer);
	else if (state == PEER_CLIENT && (peer->received || receive_message(peer)))
		run_message(peer, false);
	peer->received = false;
	turn_end(attach, kind, turn);
	loop_modify(attach->container->pool->loop, peer->fd, EPOLLIN | EPOLLRDHUP);
	peer_unref(peer);
}

static void begin_turn(struct peer *peer, enum turn_kind kind)
{
	if (!turn_begin(peer, kind))
		return;
	atomic_fetch_add(&peer->refs, 1);
	if (pool_run(peer->attach->container->pool, take_turn, peer) < 0) {
		turn_end(peer->attach, peer->kind, peer->turn);
		peer_end(peer);
		peer_unref(peer);
	}
}

/* Of a client, without descriptors. */
static void on_message(struct peer *peer)
{
	bool at_once = is_at_once(peer);

	if (at_once && (!receive_message(peer) || run_message(peer, true)))
		return;
	peer->received = at_once;
	begin_turn(peer, TURN_PLAIN);
}

static void on_peer(void *arg, uint32_t events)
{
	struct peer *peer = arg;
	enum peer_state state = state_of(peer);

	if (events & EPOLLIN) {
		if (fd_descriptors_wait(peer->fd))
			begin_turn(peer, TURN_DESCRIPTORS);
		else if (state == PEER_PENDING) /* a look at who it is */
			begin_turn(peer, TURN_PLAIN);
		else if (state == PEER_CLIENT)
			on_message(peer);
		return;
	}
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		peer_end(peer);
}

static void add_peer(struct attach *attach, int fd)
{
	struct peer *peer = calloc(1, sizeof(*peer)), *oldest = NULL;

	if (!peer) {
		fd_close(fd);
		return;
	}
	peer->attach = attach;
	peer->fd = fd;
	peer->fd_in = -1;
	atomic_init(&peer->refs, 2);
	pthread_mutex_lock(&attach->lock);
	peer->link = attach->last;
	*attach->last = peer;
	attach->last = &peer->next;
	attach->live++;
	if (++attach->pending > ATTACH_PENDING_MAX) {
		for (oldest = attach->peers; oldest->state != PEER_PENDING; oldest = oldest->next)
			;
	}
	pthread_mutex_unlock(&attach->lock);
	if (oldest)
		peer_end(oldest);
	if (loop_add(attach->container->pool->loop, fd, EPOLLIN | EPOLLRDHUP, on_peer, peer) < 0)
		peer_end(peer);
	peer_unref(peer);
}

static void on_listener(void *arg, uint32_t events)
{
	struct attach *attach = arg;

	for (int i = 0; i < 16; i++) {
		int fd = accept4(attach->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE) && attach->spare >= 0) {
			/* refuse it, or the listener stays ready for ever */
			attach->spare = fd_close(attach->spare);
			fd = accept4(attach->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			fd_close(fd);
			attach->spare = open("/dev/null", O_PATH | O_CLOEXEC);
			return;
		}
		if (fd < 0)
			return;
		add_peer(attach, fd);
	}
}

int attach_start(struct container *container, int guest_dir, struct err *err)
{
	struct attach *attach = calloc(1, sizeof(*attach));
	int r;

	if (!attach)
		return -ENOMEM;
	attach->container = container;
	attach->last = &attach->peers;
	attach->listener = -1;
	attach->spare = open("/dev/null", O_PATH | O_CLOEXEC);
	pthread_mutex_init(&attach->lock, NULL);
	pthread_cond_init(&attach->idle, NULL);
	container->attach = attach;
	r = fd_listen_at(guest_dir, "attach", 0666, &attach->listener);
	if (!r && fcntl(attach->listener, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (!r)
		r = pool_watch(container->pool, attach->listener, EPOLLIN, on_listener, attach);
	return r < 0 ? err_set(err, r, "cannot listen at %s/guest/attach: %s", container->dir,
			       strerror(-r))
		     : 0;
}

void attach_stop(struct container *container)
{
	struct attach *attach = container->attach;

	if (!attach)
		return;
	pthread_mutex_lock(&attach->lock);
	attach->stopping = true;
	pthread_mutex_unlock(&attach->lock);
	if (attach->listener >= 0) {
		pool_unwatch(container->pool, attach->listener);
		attach->listener = fd_close(attach->listener);
	}
	for (;;) {
		struct peer *peer;

		pthread_mutex_lock(&attach->lock);
		peer = attach->peers;
		if (peer)
			atomic_fetch_add(&peer->refs, 1);
		pthread_mutex_unlock(&attach->lock);
		if (!peer)
			break;
		peer_end(peer);
		peer_unref(peer);
	}
	shm_server_wait(container->pool->shm, container);
	pthread_mutex_lock(&attach->lock);
	while (attach->live || attach->has_closer) {
		if (attach->closing && !attach->has_closer) {
			attach->has_closer = true;
			pthread_mutex_unlock(&attach->lock);
			close_peers(attach);
			pthread_mutex_lock(&attach->lock);
			continue;
		}
		pthread_cond_wait(&attach->idle, &attach->lock);
	}
	pthread_mutex_unlock(&attach->lock);
	fd_close(attach->spare);
	pthread_mutex_destroy(&attach->lock);
	pthread_cond_destroy(&attach->idle);
	free(attach);
	container->attach = NULL;
}
