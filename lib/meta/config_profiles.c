/*
 * config_profiles.c - [profile] and [application] sections: how batches are made, and for whom.
 *
 *     latency     small batches, answered soon        an application that people wait for
 *     balanced    what [batch] says                   everybody else
 *     throughput  as large as they come               a job at night
 *
 * The three are there without a section; a section of that name changes what it names.
 */
#include "meta/config_loader.h"
#include "meta/nearest.h"
#include "meta/settings.h"

#define BUILT_IN 3u

static ProfileConfig *profile_named(Config *c, const char *name)
{
    return (ProfileConfig *)(uintptr_t)config_profile(c, slice_str(name));
}

static void make_built_in(Config *c)
{
    uint32_t inflight_max = c->batch_inflight_max;
    c->profiles[0] = (ProfileConfig){"latency", true, MIN(c->batch_max, 50), inflight_max, 5};
    c->profiles[1] = (ProfileConfig){"balanced", true, c->batch_max, inflight_max, 20};
    c->profiles[2] = (ProfileConfig){"throughput", true, MAX(c->batch_max, 1000), inflight_max, 100};
    c->profile_count = BUILT_IN;
}

bool load_profiles(ConfigLoader *loader)
{
    Config *c = loader->config;
    c->profiles = arena_array(&c->arena, ProfileConfig, section_count(loader, "profile") + BUILT_IN);
    if (!c->profiles)
        return FAIL_MEMORY(loader);
    make_built_in(c);
    SECTIONS_EACH(section, loader, "profile") {
        ProfileConfig *profile = profile_named(c, section->name);
        if (!profile) {
            profile = &c->profiles[c->profile_count++];
            *profile = c->profiles[1];
            profile->name = arena_text(&c->arena, slice_str(section->name));
        }
        if (!profile->name)
            return FAIL_MEMORY(loader);
        if (!section_read(loader, section, profile))
            return false;
    }
    SECTIONS_EACH(section, loader, "batch") {
        if (!profile_check(loader, section))
            return false;
    }
    return true;
}

bool load_applications(ConfigLoader *loader)
{
    Config *c = loader->config;
    c->applications =
        arena_array(&c->arena, ApplicationConfig, section_count(loader, "application") + 1);
    if (!c->applications)
        return FAIL_MEMORY(loader);
    SECTIONS_EACH(section, loader, "application") {
        ApplicationConfig *application = &c->applications[c->application_count++];
        application->name = arena_text(&c->arena, slice_str(section->name));
        if (!application->name)
            return FAIL_MEMORY(loader);
        if (!section_read(loader, section, application) || !profile_check(loader, section))
            return false;
    }
    return true;
}

bool profile_check(ConfigLoader *loader, IniSection *section)
{
    const Config *c = loader->config;
    const IniEntry *entry = entry_find(section, "profile");
    if (!entry || config_profile(c, slice_str(entry->value)))
        return true;
    Nearest nearest = nearest_init(entry->value);
    for (uint32_t i = 0; i < c->profile_count; i++)
        nearest_offer(&nearest, c->profiles[i].name);
    FAIL(loader, entry->line, "unknown profile \"%.60s\"", entry->value);
    nearest_hint(&nearest, loader->err);
    return false;
}

const ProfileConfig *config_profile(const Config *config, Slice name)
{
    for (uint32_t i = 0; i < config->profile_count; i++)
        if (slice_is(name, config->profiles[i].name))
            return &config->profiles[i];
    return NULL;
}

const ApplicationConfig *config_application(const Config *config, Slice name)
{
    for (uint32_t i = 0; i < config->application_count; i++)
        if (slice_is(name, config->applications[i].name))
            return &config->applications[i];
    return NULL;
}
