/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips through the shared-memory door, service and client in two processes:
 * bench_shm [CLIENT_CPU SERVICE_CPU [SPEC]]. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/service_fixture.h"
#include "tests/lib/shm_client.h"

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void repeat(struct shm_client *client, const char *name, const struct wire_request *request,
		   const char *piece1, int n)
{
	double best = 1e18;

	/* the best of many short rounds: others on the machine disturb some of them */
	n /= 40;
	for (int round = 0; round < 200; round++) {
		double start = now_ns();
		struct wire_reply reply;

		for (int i = 0; i < n; i++) {
			if (shm_call(client, 0, request, piece1, NULL, &reply) < 0) {
				fprintf(stderr, "%s: %s\n", name, strerror(-reply.error));
				exit(1);
			}
			if (request->op == WIRE_READ) {
				static char into[WIRE_PAYLOAD_MAX];

				memcpy(into, shm_payload(client->channel, 0), reply.len);
			}
		}
		start = (now_ns() - start) / n;
		best = start < best ? start : best;
	}
	printf("%-10s %9.0f ns\n", name, best);
}

int main(int argc, char **argv)
{
	int client_cpu = argc > 2 ? atoi(argv[1]) : -1, service_cpu = argc > 2 ? atoi(argv[2]) : -1;
	struct service_fixture fixture;
	struct wire_request request;
	struct shm_client client;
	static char block[65536];
	int ready[2], n, spin;
	pid_t service;
	uint32_t handle;
	char path[128];

	if (pipe(ready) < 0)
		return 1;
	service = fork();
	if (service == 0) {
		if (service_cpu >= 0)
			pin(service_cpu);
		if (service_fixture_start(&fixture, argc > 3 ? argv[3] : NULL) < 0)
			_exit(77);
		/* with a CPU of its own it may spin */
		fixture.pool.ncpus = client_cpu == service_cpu && client_cpu >= 0 ? 1 : 2;
		if (write(ready[1], fixture.socket, sizeof(fixture.socket)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(ready[0], path, sizeof(path)) != sizeof(path))
		return 1;
	if (client_cpu >= 0)
		pin(client_cpu);
	spin = client_cpu == service_cpu && client_cpu >= 0 ? 0 : 20000;
	n = spin ? 100000 : 20000;
	if (shm_client_attach(&client, path, spin) < 0)
		return 1;
	if (shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle) < 0)
		return 1;
	request = shm_request(&client, WIRE_GETFL, handle);
	repeat(&client, "getfl", &request, NULL, n);
	request = shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
	request.len1 = 2;
	repeat(&client, "stat", &request, "f", n);
	request = shm_request(&client, WIRE_STAT, handle);
	request.len1 = 1;
	repeat(&client, "fstat", &request, "", n);
	request = shm_request(&client, WIRE_WRITE, handle);
	request.len1 = 4096;
	repeat(&client, "write 4k", &request, block, n / 4);
	request = shm_request(&client, WIRE_READ, handle);
	request.size = 4096;
	repeat(&client, "read 4k", &request, NULL, n / 4);
	shm_client_detach(&client);
	kill(service, SIGKILL);
	waitpid(service, NULL, 0);
	return 0;
}
