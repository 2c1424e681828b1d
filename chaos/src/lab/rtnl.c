/* Holds RTNL, the kernel's lock on all networks of the machine, for as many ms as its argument says, or
   until it is killed; says `held` once it has it. It asks for the features of `lo`, which the kernel looks
   up under that lock, with a question that lies across two pages of which the second is not there yet
   (userfaultfd): the kernel waits for that page with the lock in its hand. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Somebody else may hold the lock first. */
#define PATIENCE_MS 10000

static struct ifreq question = {.ifr_name = "lo"};

static void *ask(void *socket) {
  ioctl(*(int *)socket, SIOCETHTOOL, &question);
  return 0;
}

static int failed(const char *what) {
  perror(what);
  return 1;
}

int main(int count, char **words) {
  unsigned long ms = count > 1 ? strtoul(words[1], 0, 10) : 0;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *pages = mmap(0, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return failed("mmap");
  struct ethtool_gfeatures *start = (void *)(pages + page - sizeof start->cmd);
  start->cmd = ETHTOOL_GFEATURES;
  question.ifr_data = (char *)start;
  int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_range second = {(unsigned long)pages + page, page};
  struct uffdio_register wanted = {.range = second, .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (faults < 0 || ioctl(faults, UFFDIO_API, &api) || ioctl(faults, UFFDIO_REGISTER, &wanted))
    return failed("userfaultfd");
  int asking = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  pthread_t thread;
  if (asking < 0 || pthread_create(&thread, 0, ask, &asking)) return failed("socket or thread");
  /* Comes when the kernel wants the second page: the lock is held from now on. */
  struct pollfd wait = {.fd = faults, .events = POLLIN};
  if (poll(&wait, 1, PATIENCE_MS) != 1) return failed("no fault under the lock");
  puts("held");
  fflush(stdout);
  usleep((useconds_t)ms * 1000);
  struct uffdio_zeropage zero = {.range = second};
  if (ioctl(faults, UFFDIO_ZEROPAGE, &zero)) return failed("zeropage");
  return pthread_join(thread, 0);
}
