# Made by `python -m jobimpact.cli.completion fish`: not by hand.
set -l commands report compare progress assess demo account schedule mail serve books inventory store
complete -c jobimpact -f
complete -c jobimpact -n __fish_use_subcommand -a report -d 'what you, a lab or the cluster used in a week, a month or a year'
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l me
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s u
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l user
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s A
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l lab
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l cluster
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l week
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l month
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l year
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s S
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l begin
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s E
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l end
complete -c jobimpact -n '__fish_seen_subcommand_from report' -s M
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l all
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l json
complete -c jobimpact -n '__fish_seen_subcommand_from report' -l html
complete -c jobimpact -n __fish_use_subcommand -a compare -d 'jobs, jobs of one model and units of assess side by side'
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l steps
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l per
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -s S
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l begin
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -s u
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l user
complete -c jobimpact -n '__fish_seen_subcommand_from compare' -l json
complete -c jobimpact -n __fish_use_subcommand -a progress -d 'from inside a job how far it is, how good, and what it is'
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -l step
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -l metric
complete -c jobimpact -n '__fish_seen_subcommand_from progress' -l set
complete -c jobimpact -n __fish_use_subcommand -a assess -d 'impact of a training, or another functional unit, from a file'
complete -c jobimpact -n '__fish_seen_subcommand_from assess' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from assess' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from assess' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from assess' -l json
complete -c jobimpact -n __fish_use_subcommand -a demo -d 'run real jobs on this machine and say what they cost'
complete -c jobimpact -n '__fish_seen_subcommand_from demo' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from demo' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from demo' -l dir
complete -c jobimpact -n __fish_use_subcommand -a account -d 'put the jobs that ended into the results'
complete -c jobimpact -n '__fish_seen_subcommand_from account' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from account' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from account' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from account' -l from
complete -c jobimpact -n '__fish_seen_subcommand_from account' -l to
complete -c jobimpact -n '__fish_seen_subcommand_from account' -l recompute
complete -c jobimpact -n __fish_use_subcommand -a schedule -d 'do so every night'
complete -c jobimpact -n '__fish_seen_subcommand_from schedule' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from schedule' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from schedule' -l config
complete -c jobimpact -n __fish_use_subcommand -a mail -d 'tell users by mail what their jobs cost'
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -l night
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -l preview
complete -c jobimpact -n '__fish_seen_subcommand_from mail' -l to
complete -c jobimpact -n __fish_use_subcommand -a serve -d 'answer users about their own jobs, on the accounting host'
complete -c jobimpact -n '__fish_seen_subcommand_from serve' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from serve' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from serve' -l config
complete -c jobimpact -n __fish_use_subcommand -a books -d 'what the nodes measured and whose it was'
complete -c jobimpact -n '__fish_seen_subcommand_from books' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l json
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l day
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l month
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l embodied
complete -c jobimpact -n '__fish_seen_subcommand_from books' -l node
complete -c jobimpact -n __fish_use_subcommand -a inventory -d 'what making each type of node cost, part by part'
complete -c jobimpact -n '__fish_seen_subcommand_from inventory' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from inventory' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from inventory' -l config
complete -c jobimpact -n '__fish_seen_subcommand_from inventory' -l json
complete -c jobimpact -n __fish_use_subcommand -a store -d 'init sets the time-series server up'
complete -c jobimpact -n '__fish_seen_subcommand_from store' -s h
complete -c jobimpact -n '__fish_seen_subcommand_from store' -l help
complete -c jobimpact -n '__fish_seen_subcommand_from store' -l config
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s j -l jobs -r -d 'job ids, as the arguments are'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s u -l user -r -f -a '(__fish_complete_users)' -d 'jobs of these users'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l me -d 'your own jobs'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s A -l accounts -r -d 'jobs of these accounts'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s M -l clusters -r -d 'jobs of these clusters'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s S -l starttime -r -d 'jobs that were there from then on, in saccts forms; default 7 days ago'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s E -l endtime -r -d 'jobs that began before then; default now'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s T -l truncate -d 'cut jobs at -S and -E'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l array -d 'a line for each task of an array, not their sum'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l json -d 'one JSON document'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l profile -d 'with --json power over time and progress, too'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l csv -d 'comma-separated values, raw numbers'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s P -l parsable2 -d 'the same, parted by |, as sacct does'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -s n -l noheader -d 'no line of headings'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l html -r -F -d 'write a page, - for standard output'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l units -r -f -a 'auto J kWh g kg J,g J,kg kWh,g kWh,kg' -d 'a table in these units J or kWh, g or kg, or auto'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l no-color -d 'no colours; so does NO_COLOR in the environment'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l no-pager -d 'never a pager'
complete -c jobimpact -n "not __fish_seen_subcommand_from $commands" -l config -r -F -d 'the configuration'
