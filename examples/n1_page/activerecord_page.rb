# The page as a Rails application writes it: unmodified ActiveRecord.
#     ruby activerecord_page.rb PORT autocommit|repeatable-read
require 'active_record'
require 'digest'
require 'json'

WARM = 5
PAGES = 20
port, mode = ARGV

ActiveRecord::Base.establish_connection(adapter: 'postgresql', host: '127.0.0.1', port: port, database: 'blog',
                                        username: 'app', pool: 1)

class Author < ActiveRecord::Base
end

class Post < ActiveRecord::Base
  belongs_to :author
end

def read
  Post.order(:id).limit(100).map { |post| "#{post.title} by #{post.author.name}" }.join("\n")
end

page = lambda do
  mode == 'repeatable-read' ? Post.transaction(isolation: :repeatable_read) { read } : read
end

text = nil
WARM.times { text = page.call }
puts 'warm'
$stdout.flush
$stdin.gets
times = Array.new(PAGES) do
  started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  raise 'another page' unless page.call == text
  (Process.clock_gettime(Process::CLOCK_MONOTONIC) - started) * 1000
end
puts JSON.generate(pages: PAGES, ms: times.sort[PAGES / 2].round(2), digest: Digest::SHA256.hexdigest(text))
