/* A module of OpenIPMI's ipmi_sim: DCMI's Get Power Reading, answered from a file that a test rewrites.
 *
 * The file holds: current, minimum, maximum and average watts, 1 where measuring is on, a completion code, and
 * 1 where the BMC is to hang until it is rewritten.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <OpenIPMI/mcserv.h>
#include <OpenIPMI/msg.h>

enum { DCMI = 0xdc, GET_POWER_READING = 2, ANSWER = 19 };

static char path[4096];

static void put16(unsigned char *to, unsigned int value)
{
    to[0] = value & 0xff;
    to[1] = value >> 8;
}

static void answer(lmc_data_t *mc, msg_t *msg, unsigned char *out, unsigned int *length, void *data)
{
    unsigned int watts[4] = {0}, active = 0, code = 0, hangs = 0;

    (void)data;
    if (msg->cmd != GET_POWER_READING) {
        handle_invalid_cmd(mc, out, length);
        return;
    }
    do {
        FILE *file = fopen(path, "r");
        int found = file ? fscanf(file, "%u %u %u %u %u %u %u", &watts[0], &watts[1], &watts[2], &watts[3], &active,
                                  &code, &hangs)
                         : 0;
        if (file)
            fclose(file);
        if (found != 7)
            code = 0xff;
        if (hangs)
            usleep(20000);
    } while (hangs);
    memset(out, 0, ANSWER);
    out[0] = code;
    out[1] = DCMI;
    for (int i = 0; i < 4; i++)
        put16(out + 2 + 2 * i, watts[i]);
    put16(out + 14, 1000); /* the sampling period, in ms */
    out[18] = active ? 0x40 : 0;
    *length = code ? 1 : ANSWER;
}

int ipmi_sim_module_print_version(sys_data_t *sys, char *options)
{
    (void)sys;
    (void)options;
    return 0;
}

int ipmi_sim_module_init(sys_data_t *sys, const char *options)
{
    (void)sys;
    snprintf(path, sizeof path, "%s", options);
    ipmi_emu_register_group_extension_handler(DCMI, answer, NULL);
    return 0;
}
